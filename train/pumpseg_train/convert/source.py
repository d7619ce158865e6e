"""What the readers of all formats share: folders of splits, photos whose labels are made to fit, and notes."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pumpseg.errors import DatasetError
from pumpseg.images import IMAGE_SUFFIXES
from pumpseg_train.dataset.foreign_path import is_elsewhere
from pumpseg_train.dataset.input_file import read_text
from pumpseg_train.dataset.labelled_set import SPLITS, Annotation, LabelledSet, Photo
from pumpseg_train.dataset.masks import clip_polygons, decode, upright_segmentation
from pumpseg_train.dataset.photo_file import size_of

_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
_SPLIT_OF = {name: split for split, names in _NAMES.items() for name in names}


def split_of(name: str) -> str | None:
    """The split that a folder or file name means: train, val or test, with or without a year after it."""
    return _SPLIT_OF.get(name.lower().rstrip("0123456789").rstrip("_-"))


def by_split(where: Path, meant: Mapping[str, str | None]) -> dict[str, str]:
    """The name of each split, train first. meant: the split, if any, that each name in `where` means.

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
    """The folders in `source` that are named like splits, or `source` itself as the split `otherwise`.

    Raises DatasetError if there is no such folder, or two mean the same split.
    """
    if not source.is_dir():
        raise DatasetError(f"{source} is not a folder")
    names = sorted(path.name for path in source.iterdir() if path.is_dir())
    found = by_split(source, {name: split_of(name) for name in names})
    return {split: source / name for split, name in found.items()} or {otherwise: source}


def images_in(folder: Path) -> list[Path]:
    """The image files directly in a folder, sorted."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES) if folder.is_dir() else []


def listed_classes(folder: Path) -> list[str]:
    """The names in a folder's classes.txt, one a line in the order of their ids, or in CVAT's obj.names, if any."""
    found = [path for path in (folder / "classes.txt", folder / "obj.names") if path.is_file()]
    return [line.strip() for line in read_text(found[0]).splitlines() if line.strip()] if found else []


def only_class(classes: Sequence[str], what: str) -> str:
    """The one class of labels that do not name any. Raises DatasetError unless exactly one is given."""
    if len(classes) != 1:
        raise DatasetError(f"{what} name no class: give it with --classes NAME")
    return classes[0]


@dataclass
class Reading:
    """A set while it is read: its splits, its classes as they turn up, and what the notes will say."""

    classes: list[str] = field(default_factory=list)
    splits: dict[str, list[Photo]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _photos: list[Photo] = field(default_factory=list)
    _counted: dict[str, list[str]] = field(default_factory=dict)
    _left_out: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def class_id(self, name: str) -> int:
        """The id of a class, which is new if it has not turned up before."""
        if name not in self.classes:
            self.classes.append(name)
        return self.classes.index(name) + 1

    def begin(self, split: str) -> None:
        """The photos that are added from here on are of this split."""
        self._photos = self.splits.setdefault(split, [])

    def found(self, path: Path, name: str) -> None:
        """Counts a photo that is not where its label file says."""
        if is_elsewhere(path, name):
            self.count("photos found by the end of their path", f"{name} at {path}")

    def count(self, what: str, where: str) -> None:
        """Something to report in a note: the number of times and the first place."""
        self._counted.setdefault(what, []).append(where)

    def leave_out(self, what: str, where: str, kind: str = "") -> None:
        """Counts a label of some kind that is left out since it has no mask. A set of such labels only is refused."""
        self._left_out.setdefault(what, []).append((where, kind))

    def add(self, path: Path, annotations: Iterable[Annotation], size: tuple[int, int] | None = None) -> None:
        """Adds a photo with its annotations made to fit the upright picture; those without a pixel are left out.

        size: what the labels say that the photo measures. Where that is the size of the pixels as stored, before the
        EXIF tag turns them, the annotations are turned with it. Polygons that leave the picture are clipped.
        Raises DatasetError for an unreadable image, or one of another size.
        """
        width, height, orientation = size_of(path)
        turn = 1
        if size is not None and size != (width, height):
            if orientation < 5 or size != (height, width):
                raise DatasetError(f"{path} is {width}x{height}, its labels are for {size[0]}x{size[1]}")
            turn = orientation
        fitted = []
        for annotation in annotations:
            segmentation = upright_segmentation(annotation.segmentation, turn, width, height)
            if isinstance(segmentation, dict) and segmentation["size"] != [height, width]:
                seen = "x".join(str(side) for side in reversed(segmentation["size"]))
                raise DatasetError(f"{path} is {width}x{height}, a mask of it is {seen}")
            if isinstance(segmentation, list):
                segmentation, moved = clip_polygons(segmentation, width, height)
                if moved:
                    self.count("polygons clipped to their photo", path.name)
            if segmentation and decode(segmentation, width, height).any():
                fitted.append(replace(annotation, segmentation=segmentation))
            else:
                self.count("labels left out because they have no pixel", path.name)
        self._photos.append(Photo(path, width, height, tuple(fitted)))

    def finish(self) -> LabelledSet:
        """The set that was read. Raises DatasetError if it has no photos, or all of its labels were left out."""
        if not any(self.splits.values()):
            raise DatasetError("there are no labelled photos")
        without_mask = []
        for what, labels in self._left_out.items():
            kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(kind for _, kind in labels).items() if kind)
            without_mask.append(f"{what}: {len(labels)}{f' ({kinds})' if kinds else ''}, the first in {labels[0][0]}")
        splits = {split: tuple(photos) for split, photos in self.splits.items()}
        if without_mask and not any(photo.annotations for photos in splits.values() for photo in photos):
            raise DatasetError(f"none of the labels has a mask: {'; '.join(without_mask)}")
        counted = [f"{what}: {len(places)}, the first in {places[0]}" for what, places in self._counted.items()]
        return LabelledSet(tuple(self.classes), splits, (*self.notes, *without_mask, *counted))
