"""YOLO segmentation text: data.yaml, images/SPLIT and labels/SPLIT, a line `class x y x y ...` an instance."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pumpseg.errors import DatasetError
from pumpseg.images import IMAGE_SUFFIXES
from pumpseg_train.convert.source import Reading, by_split, listed_classes, only_class, split_folders, split_of
from pumpseg_train.dataset.atomic_folder import place_photos
from pumpseg_train.dataset.foreign_path import tails
from pumpseg_train.dataset.input_file import read_text
from pumpseg_train.dataset.labelled_set import SPLITS, Annotation, LabelledSet, without_crowds
from pumpseg_train.dataset.masks import finite, one_ring, rings_of
from pumpseg_train.dataset.photo_file import size_of

MAX_SETTINGS = 1 << 20  # characters of a data.yaml

_SETTINGS = "a data.yaml of YOLO"
_NAMELESS = "YOLO labels without a data.yaml"


def read(source: Path, split: str, classes: Sequence[str]) -> LabelledSet:
    """Reads a data.yaml (or the folder that holds it), or without one images/ and labels/ and the names of
    classes.txt, or else `classes`.

    A photo without a text file, or with an empty one, shows none of the classes, unless all of a split are without.
    Boxes are left out and counted. Raises DatasetError.
    """
    if source.is_dir():
        found = sorted([*source.glob("*.yaml"), *source.glob("*.yml")])
        if len(found) > 1:
            raise DatasetError(f"{source} holds {len(found)} yaml files: name one of them")
        settings = found[0] if found else None
    elif source.is_file():
        settings = source
    else:
        raise DatasetError(f"{source} does not exist")
    reading = Reading()
    if settings is not None:
        reading.classes, folders = _from_yaml(settings, reading.notes)
    else:
        reading.classes = listed_classes(source) or list(classes) or [only_class(classes, _NAMELESS)]
        folders = {name: _images_of(name, [images]) for name, images in _by_convention(source, split).items()}
    for name, images in folders.items():
        reading.begin(name)
        for image in images:
            reading.add(image, _annotations(image, reading))
    return reading.finish()


def _settings(path: Path) -> Any:
    """The content of a data.yaml of at most MAX_SETTINGS characters and without aliases. Raises DatasetError."""
    text = read_text(path)
    try:
        if len(text) > MAX_SETTINGS:
            raise ValueError(f"it has {len(text):,} characters, at most {MAX_SETTINGS:,} are read")
        return yaml.load(text, _PlainLoader)
    except (ValueError, yaml.YAMLError) as error:
        raise DatasetError(f"{path} is not {_SETTINGS}: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise DatasetError(f"{path} is not {_SETTINGS}: it is nested too deeply") from None


class _PlainLoader(yaml.SafeLoader):
    """Refuses aliases, with which a few lines stand for any amount of memory."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has aliases (*name), which are not read")
        return super().compose_node(parent, index)


def _from_yaml(path: Path, notes: list[str]) -> tuple[list[str], dict[str, list[Path]]]:
    """The class names and the images of each split; a test split that is not there is reported in `notes`."""
    content = _settings(path)
    try:
        names = content["names"]
        if isinstance(names, dict):
            numbered = {int(float(key)): name for key, name in names.items()}
            if sorted(numbered) != list(range(len(names))):
                raise ValueError(f"its names are not numbered from 0, but {', '.join(map(str, names)):.60}")
            names = [numbered[number] for number in range(len(names))]
        if not isinstance(names, list) or any(isinstance(name, (list, dict)) for name in names):
            raise TypeError("its names are not a list of names")
        root = path.parent / (content.get("path") or ".")
        root = root if root.is_dir() else path.parent
        entries = {str(key): value for key, value in content.items() if value}
        values = {key: value if isinstance(value, list) else [value] for key, value in entries.items()}
    except (OSError, KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise DatasetError(f"{path} is not {_SETTINGS}: {type(error).__name__} {error}") from error
    folders = {}
    for split, key in by_split(path, {key: split_of(key) for key in entries}).items():
        try:
            folders[split] = _images_of(split, [_place(root, str(value), path) for value in values[key]])
        except DatasetError as error:
            if split != "test":
                raise
            notes.append(f"the split test was left out: {error}")
    if not folders:
        raise DatasetError(f"{path} names neither train, val nor test")
    return [str(name) for name in names], folders


def _place(root: Path, value: str, settings: Path) -> Path:
    """The folder or list of images that an entry of a data.yaml means: below `root`, or by the end of it next to the
    yaml, since Roboflow writes ../train/images, Colab notebooks /content/SET/train/images, and people their projects.

    That end names the split, if the entry does: images/ alone is not that of each.
    """
    try:
        ends = list(tails(value))
    except ValueError as error:
        raise DatasetError(f"{settings}: {error}") from None
    ends = [end for end in ends if any(map(split_of, end.parts))] or ends
    places = [root / value, *(place / end for end in ends for place in (root, settings.parent))]
    found = next((place for place in places if os.path.exists(place)), None)  # noqa: PTH110 - False for odd names
    if found is None:
        raise DatasetError(f"{settings}: {value:.200} is neither a folder nor a list of images in {root}")
    return found


def _images_of(split: str, places: Sequence[Path]) -> list[Path]:
    """The images of a split in its folders and lists. Raises DatasetError if there are none, or no labels."""
    images: dict[Path, None] = {}
    for place in places:
        if place.is_dir():
            images |= dict.fromkeys(_images_below(place))
        else:
            images |= {place.parent / line.strip(): None for line in read_text(place).splitlines() if line.strip()}
    if not images:
        raise DatasetError(f"{places[0]}: there are no images of the split {split}")
    if not any(_labels_path(image).is_file() for image in images):
        first = _labels_path(next(iter(images)))
        raise DatasetError(f"no image of the split {split} has a label file: there is no {first}")
    return list(images)


def _images_below(folder: Path) -> list[Path]:
    """The image files of a folder and of those in it, but for hidden ones, sorted."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            found += _images_below(path)
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            found.append(path)
    return found


def _by_convention(source: Path, split: str) -> dict[str, Path]:
    images = source / "images"
    if not images.is_dir():
        raise DatasetError(f"{source} holds neither a data.yaml nor images/")
    return split_folders(images, split)


def _labels_path(image: Path) -> Path:
    parts = list(image.parent.parts)
    for place in range(len(parts) - 1, -1, -1):
        if parts[place] == "images":  # the last one, as Ultralytics does
            parts[place] = "labels"
            break
    return Path(*parts) / f"{image.stem}.txt"


def _annotations(image: Path, reading: Reading) -> list[Annotation]:
    path = _labels_path(image)
    annotations = []
    width, height, _ = size_of(image)
    lines = read_text(path).splitlines() if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        what = f"{path}, line {number}"
        try:
            class_number, *points = finite(line.split())
            if not class_number.is_integer():
                raise ValueError(f"{class_number} is not a whole number")
        except ValueError as error:
            raise DatasetError(f"{what} is not a class number and coordinates: {line[:60]!r}: {error}") from None
        if not 0 <= class_number < len(reading.classes):
            raise DatasetError(f"{what} has class {class_number:g}, there are {len(reading.classes)} classes")
        if len(points) == 4:
            reading.leave_out("boxes left out because they have no mask", what)
            continue
        if len(points) < 6 or len(points) % 2:
            raise DatasetError(f"{what} has {len(points)} coordinates, an even number from 6 is needed")
        scaled = [value * (height if place % 2 else width) for place, value in enumerate(points)]
        annotations.append(Annotation(int(class_number) + 1, [scaled]))
    return annotations


def write(labelled: LabelledSet, out: Path, *, link: bool = False) -> LabelledSet:
    """Writes `out`/data.yaml, images/SPLIT and labels/SPLIT. Holes and several pieces are joined to one line, as
    Ultralytics does.

    Returns what was written: there are no crowd regions in YOLO labels.
    """
    labelled = without_crowds(labelled, "YOLO labels have none")
    for split, photos in labelled.splits.items():
        (out / "labels" / split).mkdir(parents=True)
        for photo, name in place_photos(photos, out / "images" / split, link=link):
            lines = []
            for annotation in photo.annotations:
                rings = rings_of(annotation.segmentation, photo.width, photo.height)
                ring = one_ring(rings) / (photo.width, photo.height)
                numbers = " ".join(f"{value:.6g}" for value in ring.ravel().clip(0, 1))
                lines.append(f"{annotation.class_id - 1} {numbers}\n")
            (out / "labels" / split / f"{Path(name).stem}.txt").write_text("".join(lines), encoding="utf-8")
    settings: dict[str, Any] = {split: f"images/{split}" for split in SPLITS if split in labelled.splits}
    settings["names"] = dict(enumerate(labelled.classes))
    (out / "data.yaml").write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return labelled
