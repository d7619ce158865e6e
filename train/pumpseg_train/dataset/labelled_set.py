"""What all formats have in common: photos with named instances, by split."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pumpseg.errors import DatasetError
from pumpseg.images import IMAGE_SUFFIXES
from pumpseg_train.dataset.image_probe import size_of
from pumpseg_train.dataset.masks import clip_polygons, decode, upright_segmentation

SPLITS = ("train", "val", "test")
_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"} | {
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Label:
    """One instance, or a crowd region. segmentation: COCO polygons or run lengths, of the upright picture."""

    class_name: str
    segmentation: Any
    crowd: bool = False


@dataclass(frozen=True)
class LabelledPhoto:
    """An image file, its size in pixels when upright, and what is on it."""

    path: Path
    width: int
    height: int
    labels: tuple[Label, ...]


@dataclass(frozen=True)
class LabelledSet:
    """Photos by split. classes: in the order of their ids, from 1. notes: what could not be carried over as it is."""

    classes: tuple[str, ...]
    splits: Mapping[str, tuple[LabelledPhoto, ...]]
    notes: tuple[str, ...] = ()


def split_of(name: str) -> str | None:
    """Our name of a split by that of a folder or file: train, val or test, whatever year stands behind it."""
    return _NAMES.get(name.lower().rstrip("0123456789").rstrip("_-"))


def by_split(where: Path, meant: Mapping[str, str | None]) -> dict[str, str]:
    """The name that stands for each split, train first. meant: the split that each name in `where` means, if any.

    Raises DatasetError if two names mean the same split.
    """
    found: dict[str, str] = {}
    for name, split in meant.items():
        if split and found.setdefault(split, name) != name:
            raise DatasetError(
                f"{where}: {found[split]} and {name} both mean {split}: join them, or convert each by itself"
            )
    return {split: found[split] for split in SPLITS if split in found}


def split_folders(source: Path, otherwise: str) -> dict[str, Path]:
    """The folders below `source` that are named like splits, or `source` itself as the split `otherwise`.

    Raises DatasetError if there is no such folder, or two mean the same split.
    """
    if not source.is_dir():
        raise DatasetError(f"{source} is not a folder")
    names = sorted(path.name for path in source.iterdir() if path.is_dir())
    found = by_split(source, {name: split_of(name) for name in names})
    return {split: source / name for split, name in found.items()} or {otherwise: source}


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder, not of folders in it, sorted."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES) if folder.is_dir() else []


def labelled_photo(
    path: Path, labels: Iterable[Label], size: tuple[int, int] | None = None, clipped: list[str] | None = None
) -> LabelledPhoto:
    """A photo with its labels made to fit the upright picture.

    size: what the labels say that the photo measures; where that is the size of the pixels as stored, before the
    EXIF tag turns them, the labels are turned with it. Polygons that leave the picture are clipped; the name of a
    photo where that is more than rounding is added to `clipped`.
    Raises DatasetError for an unreadable image, or one of another size.
    """
    width, height, orientation = size_of(path)
    turn = 1
    if size is not None and size != (width, height):
        if orientation < 5 or size != (height, width):
            raise DatasetError(f"{path} is {width}x{height}, its labels are for {size[0]}x{size[1]}")
        turn = orientation
    fitted = []
    for label in labels:
        segmentation = upright_segmentation(label.segmentation, turn, width, height)
        if isinstance(segmentation, dict) and segmentation["size"] != [height, width]:
            seen = "x".join(str(side) for side in reversed(segmentation["size"]))
            raise DatasetError(f"{path} is {width}x{height}, a mask of it is {seen}")
        if isinstance(segmentation, list):
            segmentation, moved = clip_polygons(segmentation, width, height)
            if moved and clipped is not None:
                clipped.append(path.name)
        fitted.append(replace(label, segmentation=segmentation))
    return LabelledPhoto(path, width, height, tuple(fitted))


def labelled_set(
    splits: Mapping[str, Sequence[LabelledPhoto]],
    classes: Sequence[str] = (),
    clipped: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> LabelledSet:
    """The set, but for labels without a pixel; classes that the source does not put in order are sorted by name.

    Raises DatasetError if there is no photo.
    """
    if not any(splits.values()):
        raise DatasetError("there are no labelled photos")
    if not classes:
        photos = (photo for split in splits.values() for photo in split)
        classes = sorted({label.class_name for photo in photos for label in photo.labels})
    said = list(notes)
    if clipped:
        said.append(f"{len(clipped)} polygons left their photo and were clipped, the first in {clipped[0]}")
    kept = {name: tuple(_without_empty(photo) for photo in split) for name, split in splits.items()}
    empty = [
        photo.path.name
        for name, split in splits.items()
        for photo, rest in zip(split, kept[name], strict=True)
        for _ in range(len(photo.labels) - len(rest.labels))
    ]
    if empty:
        said.append(f"{len(empty)} labels without a pixel were left out, the first in {empty[0]}")
    return LabelledSet(tuple(classes), kept, tuple(said))


def _without_empty(photo: LabelledPhoto) -> LabelledPhoto:
    labels = tuple(
        label
        for label in photo.labels
        if label.segmentation and decode(label.segmentation, photo.width, photo.height).any()
    )
    return photo if len(labels) == len(photo.labels) else replace(photo, labels=labels)


def without_crowds(labelled: LabelledSet, why: str) -> LabelledSet:
    """The set but for its crowd regions, with a note of their number and `why` they are left out."""
    crowds = sum(label.crowd for photos in labelled.splits.values() for photo in photos for label in photo.labels)
    if not crowds:
        return labelled
    splits = {
        split: tuple(
            replace(photo, labels=tuple(label for label in photo.labels if not label.crowd)) for photo in photos
        )
        for split, photos in labelled.splits.items()
    }
    note = f"{crowds} crowd regions were left out: {why}"
    return replace(labelled, splits=splits, notes=(*labelled.notes, note))


def choose_classes(labelled: LabelledSet, names: Sequence[str], renamed: Mapping[str, str]) -> LabelledSet:
    """Renames classes (several may get one name), then keeps those of `names`, in that order; all if it is empty.

    Raises DatasetError for a name that does not occur.
    """
    if unknown := [name for name in renamed if name not in labelled.classes]:
        raise DatasetError(f"there is no class {unknown[0]!r} to rename: there are {_listed(labelled.classes)}")
    known = tuple(dict.fromkeys(renamed.get(name, name) for name in labelled.classes))
    if unknown := [name for name in names if name not in known]:
        raise DatasetError(f"there is no class {unknown[0]!r}: there are {_listed(known)}")
    kept = tuple(names) or known
    splits = {
        split: tuple(
            replace(
                photo,
                labels=tuple(
                    replace(label, class_name=renamed.get(label.class_name, label.class_name))
                    for label in photo.labels
                    if renamed.get(label.class_name, label.class_name) in kept
                ),
            )
            for photo in photos
        )
        for split, photos in labelled.splits.items()
    }
    return replace(labelled, classes=kept, splits=splits)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:10])
    return shown + (f" and {len(names) - 10} more" if len(names) > 10 else "") if names else "none"


def only_class(classes: Sequence[str], what: str) -> str:
    """The one class of labels that name none. Raises DatasetError unless exactly one is given."""
    if len(classes) != 1:
        raise DatasetError(f"{what} name no class: say which it is with --classes NAME")
    return classes[0]
