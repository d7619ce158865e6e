"""YOLO segmentation text: data.yaml, images/SPLIT and labels/SPLIT, a line `class x y x y ...` an instance."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from pumpseg.errors import DatasetError
from pumpseg.images import IMAGE_SUFFIXES
from pumpseg_train.convert.source import Reading, by_split, only_class, split_folders, split_of
from pumpseg_train.dataset.atomic_folder import place_photos
from pumpseg_train.dataset.labelled_set import SPLITS, Annotation, LabelledSet, without_crowds
from pumpseg_train.dataset.masks import finite, one_ring, rings_of
from pumpseg_train.dataset.photo_file import size_of
from pumpseg_train.dataset.text_file import read_text


def read(source: Path, split: str, classes: Sequence[str]) -> LabelledSet:
    """Reads a data.yaml (or the folder that holds it), or without one images/ and labels/ and the names `classes`.

    A photo without a text file, or with an empty one, shows none of the classes, unless all of a split are without.
    Raises DatasetError.
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
    if settings is not None:
        names, folders, notes = _from_yaml(settings)
    else:
        notes = []
        names = list(classes) or [only_class(classes, "YOLO labels without a data.yaml")]
        folders = _by_convention(source, split)
    reading = Reading(list(names), notes=notes)
    for name, images in folders.items():
        if not images:
            raise DatasetError(f"{source}: there are no images of the split {name}")
        if not any(_labels_path(image).is_file() for image in images):
            raise DatasetError(f"no image of the split {name} has a label file: there is no {_labels_path(images[0])}")
        reading.begin(name)
        for image in images:
            reading.add(image, _annotations(image, len(names)))
    return reading.finish()


def _from_yaml(path: Path) -> tuple[list[str], dict[str, list[Path]], list[str]]:
    """Class names, the images of each split, and notes. A test split that does not exist is left out."""
    try:
        content = yaml.safe_load(read_text(path))
        names = content["names"]
        if isinstance(names, dict):
            names = {int(number): name for number, name in names.items()}
            if sorted(names) != list(range(len(names))):
                raise ValueError("its names are not numbered from 0")
            names = [names[number] for number in range(len(names))]
        names = [str(name) for name in names]
        root = path.parent / (content.get("path") or ".")
        root = root if root.is_dir() else path.parent
        entries = {str(key): value for key, value in content.items() if value}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        why = " ".join(str(error).split())
        raise DatasetError(f"{path} is not a data.yaml of YOLO: {type(error).__name__} {why}") from error
    folders, notes = {}, []
    for split, key in by_split(path, {key: split_of(key) for key in entries}).items():
        values = entries[key] if isinstance(entries[key], list) else [entries[key]]
        try:
            folders[split] = list(dict.fromkeys(image for value in values for image in _listed(root, str(value), path)))
        except DatasetError as error:
            if split != "test":
                raise
            notes.append(f"the split test was left out: {error}")
    if not folders:
        raise DatasetError(f"{path} names neither train, val nor test")
    return names, folders, notes


def _listed(root: Path, value: str, settings: Path) -> list[Path]:
    # Roboflow writes ../train/images for what is next to the yaml, others the name of the project before it.
    parts = [part for part in PurePosixPath(value.replace("\\", "/")).parts if part not in ("..", ".", "/")]
    tails = [parts[start:] for start in range(len(parts)) if start == 0 or any(map(split_of, parts[start:]))]
    for place in (root / value, *(root.joinpath(*tail) for tail in tails)):
        if place.is_dir():
            return _images_below(place)
        if place.is_file():
            lines = _text(place).split("\n")
            return [place.parent / line.strip() for line in lines if line.strip()]
    raise DatasetError(f"{settings}: {value} is neither a folder nor a list of images in {root}")


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


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"cannot read {path}: {error}") from None


def _by_convention(source: Path, split: str) -> dict[str, list[Path]]:
    images = source / "images"
    if not images.is_dir():
        raise DatasetError(f"{source} holds neither a data.yaml nor images/")
    return {name: _images_below(folder) for name, folder in split_folders(images, split).items()}


def _labels_path(image: Path) -> Path:
    parts = list(image.parent.parts)
    for place in range(len(parts) - 1, -1, -1):
        if parts[place] == "images":  # the last one, as Ultralytics does
            parts[place] = "labels"
            break
    return Path(*parts) / f"{image.stem}.txt"


def _annotations(image: Path, classes: int) -> list[Annotation]:
    path = _labels_path(image)
    annotations = []
    width, height, _ = size_of(image)
    lines = _text(path).splitlines() if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        what = f"{path}, line {number}"
        try:
            class_number, *values = line.split()
            points, class_id = finite(values), _whole(class_number) + 1
        except ValueError as error:
            raise DatasetError(f"{what} is not a class number and coordinates: {line[:60]!r}: {error}") from None
        if not 1 <= class_id <= classes:
            raise DatasetError(f"{what} has class {class_number}, there are {classes} classes")
        if len(points) == 4:
            raise DatasetError(f"{what} is a box: labels for detection have no masks")
        if len(points) < 6 or len(points) % 2:
            raise DatasetError(f"{what} has {len(points)} coordinates, an even number from 6 is needed")
        scaled = [value * (height if place % 2 else width) for place, value in enumerate(points)]
        annotations.append(Annotation(class_id, [scaled]))
    return annotations


def _whole(text: str) -> int:
    """A class number, which some tools write as 0.0. Raises ValueError."""
    number = float(text)
    if not number.is_integer():
        raise ValueError(f"{text} is not a whole number")
    return int(number)


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
