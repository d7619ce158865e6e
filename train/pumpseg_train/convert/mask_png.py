"""Masks as PNG files, one an instance: images/NAME.jpg and masks/NAME/*.png, or masks/NAME_*.png.

Anything but black is the instance, or what is opaque where a picture has transparent pixels. With several classes the
file name begins with the name of the class (masks/NAME/pumpkin_001.png); without --classes it is CLASS_001.png.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pumpseg.errors import DatasetError
from pumpseg_train.convert.source import Reading, images_in, split_folders
from pumpseg_train.dataset.atomic_folder import place_photos
from pumpseg_train.dataset.labelled_set import Annotation, LabelledSet, sort_classes
from pumpseg_train.dataset.masks import encode
from pumpseg_train.dataset.photo_file import size_of

_CROWD = "_crowd"
_HALF = 127  # of 255
_OWN_NAME = re.compile(rf"(.+)_\d{{3,}}(?:{_CROWD})?")  # as `write` names files


def read(source: Path, split: str, classes: Sequence[str]) -> LabelledSet:
    """Reads SOURCE/{train,val,test} or one folder. Raises DatasetError."""
    reading = Reading(list(classes))
    unmatched: list[Path] = []
    for name, folder in split_folders(source, split).items():
        reading.begin(name)
        images = images_with_masks(folder)
        by_photo = _by_photo(images_in(folder / "masks"), {image.stem for image in images})
        unmatched += by_photo.pop("", [])
        for image in images:
            names = {path: path.stem for path in images_in(folder / "masks" / image.stem)} or {
                path: path.stem.removeprefix(f"{image.stem}_") for path in by_photo.get(image.stem, [])
            }
            annotations = []
            for path, name in names.items():
                class_id = _class_id(path, name, reading, classes)
                annotations.append(Annotation(class_id, encode(_mask(path, reading)), name.endswith(_CROWD)))
            sizes = {(width, height) for height, width in (a.segmentation["size"] for a in annotations)}
            if len(sizes) > 1:
                raise DatasetError(f"the masks of {image} have different sizes: {sorted(sizes)}")
            reading.add(image, annotations, next(iter(sizes), None))
    found = reading.finish() if classes else sort_classes(reading.finish())
    if not unmatched:
        return found
    note = f"masks left out because no photo has their name: {len(unmatched)}, the first is {unmatched[0]}"
    if not any(photo.annotations for photo in found.photos):
        raise DatasetError(f"no photo has a mask: {note}")
    return replace(found, notes=(*found.notes, note))


def images_with_masks(folder: Path) -> list[Path]:
    """The photos in images/. Raises DatasetError unless there are images/ and masks/."""
    for needed in ("images", "masks"):
        if not (folder / needed).is_dir():
            raise DatasetError(f"{folder} holds no {needed}/")
    return images_in(folder / "images")


@contextmanager
def open_mask(path: Path) -> Iterator[Image.Image]:
    """The picture, not yet decoded. Raises DatasetError, also if decoding fails."""
    size_of(path)
    try:
        with Image.open(path) as image:
            yield image
    except (OSError, ValueError, SyntaxError):
        raise DatasetError(f"{path} cannot be read as an image") from None


def _by_photo(files: Iterable[Path], stems: set[str]) -> dict[str, list[Path]]:
    """The files NAME_*.png by NAME, the longest of `stems` that fits: a_2_1.png is of a_2 if that is there, or of a.

    Those that fit none are under "".
    """
    found: dict[str, list[Path]] = {}
    for path in files:
        parts = path.stem.split("_")
        names = ("_".join(parts[:count]) for count in range(len(parts) - 1, 0, -1))
        found.setdefault(next((name for name in names if name in stems), ""), []).append(path)
    return found


def _mask(path: Path, reading: Reading) -> NDArray[np.bool_]:
    """(h, w): what is bright in a JPEG; what is opaque where anything is not; else what is not black."""
    with open_mask(path) as image:
        if image.format == "JPEG":
            reading.count("JPEG masks, whose edges are inexact, cut at half brightness", str(path))
            return np.asarray(image.convert("L")) > _HALF
        coloured = image.mode in ("P", "PA") or "transparency" in image.info
        pixels = np.asarray(image.convert("RGBA") if coloured else image)
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        alpha, pixels = pixels[..., -1], pixels[..., :-1]
        if alpha.min() <= _HALF:
            return alpha > _HALF
    return np.asarray(pixels.any(axis=2) if pixels.ndim == 3 else pixels != 0)


def _class_id(path: Path, name: str, reading: Reading, classes: Sequence[str]) -> int:
    if len(classes) == 1:
        return 1
    if not classes and (match := _OWN_NAME.fullmatch(name)):
        return reading.class_id(match[1])
    fitting = [known for known in classes if name == known or name.startswith(f"{known}_")]
    if not fitting:
        raise DatasetError(f"{path} begins with no class name: name the classes with --classes, or just one")
    return classes.index(max(fitting, key=len)) + 1


def write(labelled: LabelledSet, out: Path, *, link: bool = False) -> LabelledSet:
    """Writes `out`/{train,val,test}/images and masks/NAME/CLASS_001.png, crowd regions as CLASS_001_crowd.png.

    Returns what was written, which is all of it. Raises DatasetError for a class that no file can be named after.
    """
    if bad := [name for name in labelled.classes if Path(name).name != name or "\0" in name]:
        raise DatasetError(f"no file can be named after the class {bad[0]!r}: --rename it")
    for split, photos in labelled.splits.items():
        (out / split / "masks").mkdir(parents=True)
        for photo, name in place_photos(photos, out / split / "images", link=link):
            folder = out / split / "masks" / Path(name).stem
            folder.mkdir()
            for number, annotation in enumerate(photo.annotations, start=1):
                mask = annotation.mask(photo.width, photo.height) * np.uint8(255)
                crowd = _CROWD if annotation.crowd else ""
                Image.fromarray(mask).save(folder / f"{labelled.name_of(annotation)}_{number:03}{crowd}.png")
    return labelled
