"""The formats by name."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from pumpseg.errors import DatasetError
from pumpseg_train.convert import coco, index_png, labelme, mask_png, via, yolo
from pumpseg_train.dataset.atomic_folder import atomic_folder
from pumpseg_train.dataset.input_file import refuse_zip
from pumpseg_train.dataset.labelled_set import LabelledSet, choose_classes, map_annotations


class Format(Protocol):
    """What the module of a format offers."""

    def read(self, source: Path, split: str, classes: Sequence[str]) -> LabelledSet: ...
    def write(self, labelled: LabelledSet, out: Path, *, link: bool = False) -> LabelledSet: ...


FORMATS: dict[str, Format] = {
    "coco": coco,
    "via": via,
    "labelme": labelme,
    "yolo": yolo,
    "masks": mask_png,
    "index": index_png,
}
# Formats whose labels need not name a class, so that --classes names them rather than chooses among them.
_NAMELESS = ("via", "yolo", "masks", "index")


def convert(
    source: Path,
    out: Path,
    source_format: str,
    target_format: str,
    *,
    split: str = "train",
    classes: Sequence[str] = (),
    renamed: dict[str, str] | None = None,
    images: Path | None = None,
    crowds_as_instances: bool = False,
    link: bool = False,
) -> LabelledSet:
    """Reads `source`, and writes it to the new folder `out`, all or nothing; returns what was written.

    split: what a source without train/, val/ or test/ is. classes: those to keep, in the order of their ids.
    images: the folder of the photos of COCO json. crowds_as_instances: what the source marks as crowd regions are
    single objects. link: hard links instead of copies of the photos.
    Raises DatasetError.
    """
    if doubled := [name for number, name in enumerate(classes) if name in classes[:number]]:
        raise DatasetError(f"--classes names {doubled[0]!r} twice")
    refuse_zip(source)
    with tempfile.TemporaryDirectory() as scratch:
        if source_format == "coco":
            labelled = coco.read(source, split, classes, images)
        elif source_format == "labelme":
            labelled = labelme.read(source, split, classes, Path(scratch))
        else:
            labelled = FORMATS[source_format].read(source, split, classes)
        nameless = source_format in _NAMELESS and tuple(classes) == labelled.classes
        labelled = choose_classes(labelled, () if nameless else classes, renamed or {})
        if crowds_as_instances:
            labelled = map_annotations(labelled, lambda annotation: replace(annotation, crowd=False))
        with atomic_folder(out) as unfinished:
            return FORMATS[target_format].write(labelled, unfinished, link=link)
