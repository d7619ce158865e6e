"""The formats by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pumpseg.errors import DatasetError
from pumpseg_train.convert import coco, labelme, mask_png, via, yolo
from pumpseg_train.dataset.atomic_folder import atomic_folder
from pumpseg_train.dataset.labelled_set import LabelledSet, choose_classes


class Read(Protocol):
    def __call__(self, source: Path, split: str, classes: Sequence[str], /) -> LabelledSet: ...


class Write(Protocol):
    def __call__(self, labelled: LabelledSet, out: Path, *, link: bool) -> LabelledSet: ...


@dataclass(frozen=True)
class Format:
    read: Read
    write: Write


FORMATS = {
    "coco": Format(coco.read, coco.write),
    "via": Format(via.read, via.write),
    "labelme": Format(labelme.read, labelme.write),
    "yolo": Format(yolo.read, yolo.write),
    "masks": Format(mask_png.read_masks, mask_png.write_masks),
    "index": Format(mask_png.read_index, mask_png.write_index),
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
    photos: Path | None = None,
    link: bool = False,
) -> LabelledSet:
    """Reads `source`, and writes it to the new folder `out`, all or nothing; returns what was written.

    split: what a source without train/, val/ or test/ is. classes: those to keep, in the order of their ids.
    photos: the folder of the photos of COCO json. link: hard links instead of copies of the photos.
    Raises DatasetError.
    """
    if doubled := [name for number, name in enumerate(classes) if name in classes[:number]]:
        raise DatasetError(f"--classes names {doubled[0]!r} twice")
    if source_format == "coco":
        labelled = coco.read(source, split, classes, photos)
    else:
        labelled = FORMATS[source_format].read(source, split, classes)
    nameless = source_format in _NAMELESS and tuple(classes) == labelled.classes
    labelled = choose_classes(labelled, () if nameless else classes, renamed or {})
    with atomic_folder(out) as unfinished:
        return FORMATS[target_format].write(labelled, unfinished, link=link)
