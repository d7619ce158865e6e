"""A data set in memory: photos with their annotations, by split, and the classes."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pumpseg.errors import DatasetError
from pumpseg_train.dataset.masks import decode

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Annotation:
    """One labelled instance, or a crowd region: an area to be ignored.

    class_id: from 1, in the order of `LabelledSet.classes`. segmentation: COCO polygons [[x0, y0, x1, y1, ...], ...] or
    a COCO run-length encoding, of the upright photo; None where the file has none that can be read. record: all keys
    that a json file has for it.
    """

    class_id: int
    segmentation: Any
    crowd: bool = False
    id: int = 0
    record: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def mask(self, width: int, height: int) -> NDArray[np.uint8]:
        """The mask, uint8 (height, width) of 0 and 1."""
        return decode(self.segmentation, width, height)


@dataclass(frozen=True, eq=False)
class Photo:
    """An image file and its annotations. Width and height in pixels, upright. Compared by identity.

    record: all keys that a json file has for it.
    """

    path: Path
    width: int
    height: int
    annotations: tuple[Annotation, ...] = ()
    id: int = 0
    record: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def partly_labelled(self) -> bool:
        """Whether some objects have no annotation, so that nothing is known of where there is none."""
        return bool(self.record.get("partly_labelled", False))


@dataclass(frozen=True)
class AnnotationsFile:
    """What an annotations.json has besides images and annotations.

    categories: as they are in the file. about: what it says of the set as a whole, such as info and licenses.
    """

    path: Path
    categories: tuple[Mapping[str, Any], ...]
    about: Mapping[str, Any]


@dataclass(frozen=True)
class LabelledSet:
    """Photos by split, or those of a single split.

    classes: in the order of their ids, from 1. notes: what could not be carried over as it was. files: by split, where
    the set was read from annotations.json.
    """

    classes: tuple[str, ...]
    splits: Mapping[str, tuple[Photo, ...]]
    notes: tuple[str, ...] = ()
    files: Mapping[str, AnnotationsFile] = field(default_factory=dict, repr=False)

    @cached_property
    def photos(self) -> tuple[Photo, ...]:
        """The photos of all splits."""
        return tuple(photo for photos in self.splits.values() for photo in photos)

    @property
    def json_path(self) -> Path:
        """The annotations.json of a set of one split."""
        return next(iter(self.files.values())).path

    @property
    def paths(self) -> Iterator[Path]:
        """Every file that the set was read from."""
        yield from (file.path for file in self.files.values())
        yield from (photo.path for photo in self.photos)

    def name_of(self, annotation: Annotation) -> str:
        """The class of an annotation."""
        return self.classes[annotation.class_id - 1]

    def count(self, split: str, *, crowd: bool = False) -> int:
        """Instances in a split, or crowd regions."""
        return sum(annotation.crowd == crowd for photo in self.splits[split] for annotation in photo.annotations)


def map_annotations(labelled: LabelledSet, change: Callable[[Annotation], Annotation | None]) -> LabelledSet:
    """The set with `change` of every annotation; those for which it is None are left out."""
    splits = {
        split: tuple(
            replace(photo, annotations=tuple(filter(None, map(change, photo.annotations)))) for photo in photos
        )
        for split, photos in labelled.splits.items()
    }
    return replace(labelled, splits=splits)


def without_crowds(labelled: LabelledSet, why: str) -> LabelledSet:
    """The set without its crowd regions, and a note of their number and `why` they are left out."""
    crowds = sum(labelled.count(split, crowd=True) for split in labelled.splits)
    if not crowds:
        return labelled
    note = f"crowd regions left out because {why}: {crowds}"
    without = map_annotations(labelled, lambda annotation: None if annotation.crowd else annotation)
    return replace(without, notes=(*labelled.notes, note))


def choose_classes(
    labelled: LabelledSet, names: Sequence[str], renamed: Mapping[str, str] | None = None
) -> LabelledSet:
    """Renames classes (several may get one name), then keeps those of `names`, in that order; all if it is empty.

    Raises DatasetError for a name that does not occur.
    """
    renamed = renamed or {}
    _check_known(renamed, labelled.classes, " to rename")
    new_names = [renamed.get(name, name) for name in labelled.classes]
    known = tuple(dict.fromkeys(new_names))
    _check_known(names, known)
    kept = tuple(names) or known
    class_ids = {old: kept.index(name) + 1 for old, name in enumerate(new_names, start=1) if name in kept}

    def change(annotation: Annotation) -> Annotation | None:
        class_id = class_ids.get(annotation.class_id)
        return replace(annotation, class_id=class_id) if class_id else None

    return replace(map_annotations(labelled, change), classes=kept)


def sort_classes(labelled: LabelledSet) -> LabelledSet:
    """The set with those classes that occur, sorted by name."""
    seen = {annotation.class_id for photo in labelled.photos for annotation in photo.annotations}
    return choose_classes(labelled, sorted(labelled.classes[class_id - 1] for class_id in seen))


def _check_known(names: Collection[str], known: Sequence[str], purpose: str = "") -> None:
    if unknown := [name for name in names if name not in known]:
        more = f" and {len(known) - 10} more" if len(known) > 10 else ""
        listed = ", ".join(known[:10]) + more if known else "none"
        raise DatasetError(f"there is no class {unknown[0]!r}{purpose}: there are {listed}")
