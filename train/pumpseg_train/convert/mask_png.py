"""Masks as PNG files: one file an instance (`masks`), or one picture of instance numbers a photo (`index`).

    masks:  images/NAME.jpg and masks/NAME/*.png (anything but black is the instance), or masks/NAME_*.png
    index:  images/NAME.jpg and masks/NAME.png, 8 or 16 bits or a palette, 0 is background

With several classes the PNG of an instance begins with the name of its class (masks/NAME/pumpkin_001.png), and an
index is 1000 * class number + instance number, as in Cityscapes' instanceIds; an index below 1000 is then a region of
that class without instances, which becomes a crowd region. 255 in a palette is Pascal VOC's "void".
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pumpseg.errors import DatasetError
from pumpseg_train.convert.source import Reading, images_in, only_class, split_folders
from pumpseg_train.dataset.atomic_folder import place_image
from pumpseg_train.dataset.labelled_set import Annotation, LabelledSet, without_crowds
from pumpseg_train.dataset.masks import encode

_CROWD = "_crowd"
_PER_CLASS = 1000
_VOID = 255


def read_masks(source: Path, split: str, classes: Sequence[str]) -> LabelledSet:
    """Reads a PNG an instance, from SOURCE/{train,val,test} or one folder. Raises DatasetError."""
    unmatched: list[Path] = []

    def annotations_of(image: Path, files: list[Path]) -> list[Annotation]:
        found = []
        for path in files:
            mask = _without_alpha(_pixels(path)) != 0
            class_id = _class_id(path, image, classes)
            found.append(Annotation(class_id, encode(mask), crowd=path.stem.endswith(_CROWD)))
        return found

    def annotations_in(images: list[Path], folder: Path) -> Iterator[list[Annotation]]:
        by_photo = _by_photo(sorted(folder.glob("*.png")), {image.stem for image in images})
        unmatched.extend(by_photo.pop("", []))
        return (
            annotations_of(image, images_in(folder / image.stem) or by_photo.get(image.stem, [])) for image in images
        )

    found = _read(source, split, classes, annotations_in)
    if not unmatched:
        return found
    note = f"{len(unmatched)} masks match no photo's name and were left out, the first is {unmatched[0]}"
    if not any(photo.annotations for photo in found.photos):
        raise DatasetError(f"no photo has a mask: {note}")
    return replace(found, notes=(*found.notes, note))


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


def read_index(source: Path, split: str, classes: Sequence[str]) -> LabelledSet:
    """Reads a PNG of instance numbers a photo, from SOURCE/{train,val,test} or one folder. Raises DatasetError."""

    def annotations_of(image: Path, folder: Path) -> list[Annotation]:
        path = folder / f"{image.stem}.png"
        if not classes:
            only_class(classes, "pictures of instance numbers")
        if not path.is_file():
            raise DatasetError(f"{image} has no mask {path}")
        with Image.open(path) as opened:
            palette = opened.mode == "P"
        pixels = _pixels(path)
        if pixels.ndim != 2:
            raise DatasetError(f"{path} has {pixels.shape[2]} channels: an index picture has one")
        found = []
        for value in np.unique(pixels):
            if value == 0 or (palette and value == _VOID):
                continue
            number, instance = divmod(int(value), _PER_CLASS) if len(classes) > 1 else (1, int(value))
            if number == 0:
                number, instance = instance, 0
            if not 1 <= number <= len(classes):
                raise DatasetError(f"{path} has the value {value}, whose class {number} is none of the {len(classes)}")
            found.append(Annotation(number, encode(pixels == value), crowd=instance == 0))
        return found

    return _read(source, split, classes, lambda images, folder: (annotations_of(image, folder) for image in images))


def _read(
    source: Path,
    split: str,
    classes: Sequence[str],
    annotations_in: Callable[[list[Path], Path], Iterable[list[Annotation]]],
) -> LabelledSet:
    reading = Reading(list(classes))
    for name, folder in split_folders(source, split).items():
        reading.begin(name)
        for needed in ("images", "masks"):
            if not (folder / needed).is_dir():
                raise DatasetError(f"{folder} holds no {needed}/")
        images = images_in(folder / "images")
        for image, annotations in zip(images, annotations_in(images, folder / "masks"), strict=True):
            sizes = {(width, height) for height, width in (a.segmentation["size"] for a in annotations)}
            if len(sizes) > 1:
                raise DatasetError(f"the masks of {image} have different sizes: {sorted(sizes)}")
            reading.add(image, annotations, next(iter(sizes), None))
    return reading.finish()


def _class_id(path: Path, image: Path, classes: Sequence[str]) -> int:
    if len(classes) == 1:
        return 1
    name = path.stem.removeprefix(f"{image.stem}_")
    fitting = [known for known in classes if name == known or name.startswith(f"{known}_")]
    if not fitting:
        raise DatasetError(f"{path} begins with no class name: name the classes with --classes, or just one")
    return classes.index(max(fitting, key=len)) + 1


def _without_alpha(pixels: NDArray[Any]) -> NDArray[Any]:
    """(h, w): the brightest colour of each pixel."""
    if pixels.ndim == 2:
        return pixels
    return pixels[..., : -1 if pixels.shape[2] in (2, 4) else None].max(axis=2)


def _pixels(path: Path) -> NDArray[Any]:
    try:
        with Image.open(path) as image:
            return np.asarray(image)
    except (OSError, ValueError, SyntaxError):
        raise DatasetError(f"{path} cannot be read as an image") from None


def write_masks(labelled: LabelledSet, out: Path, *, link: bool = False) -> LabelledSet:
    """Writes `out`/{train,val,test}/images and masks/NAME/CLASS_001.png, crowd regions as CLASS_001_crowd.png.

    Returns what was written, which is all of it.
    """
    for split, photos in labelled.splits.items():
        taken = set[str]()
        (out / split / "masks").mkdir(parents=True)
        (out / split / "images").mkdir()
        for photo in photos:
            name = place_image(photo.path, out / split / "images", taken, link=link)
            folder = out / split / "masks" / Path(name).stem
            folder.mkdir()
            for number, annotation in enumerate(photo.annotations, start=1):
                mask = annotation.mask(photo.width, photo.height) * np.uint8(255)
                crowd = _CROWD if annotation.crowd else ""
                Image.fromarray(mask).save(folder / f"{labelled.name_of(annotation)}_{number:03}{crowd}.png")
    return labelled


def write_index(labelled: LabelledSet, out: Path, *, link: bool = False) -> LabelledSet:
    """Writes `out`/{train,val,test}/images and masks/NAME.png of 16 bits. Where instances overlap the later one wins.

    Returns what was written: without instances that others cover entirely, and with one class without crowd regions.
    """
    several = len(labelled.classes) > 1
    if not several:
        labelled = without_crowds(labelled, "an index of one class has none")
    hidden, splits = 0, {}
    for split, photos in labelled.splits.items():
        taken = set[str]()
        (out / split / "masks").mkdir(parents=True)
        (out / split / "images").mkdir()
        written = []
        for photo in photos:
            name = place_image(photo.path, out / split / "images", taken, link=link)
            pixels = np.zeros((photo.height, photo.width), np.uint16)
            values, counts = [], Counter[int]()
            for annotation in sorted(photo.annotations, key=lambda annotation: not annotation.crowd):
                number = annotation.class_id
                counts[number] += not annotation.crowd
                value = counts[number] if not several else number
                if several and not annotation.crowd:
                    value = _PER_CLASS * number + counts[number]
                if value >= 1 << 16 or counts[number] >= _PER_CLASS:
                    raise DatasetError(f"{photo.path} has more classes or instances than an index picture can hold")
                values.append((annotation, value))
                pixels[annotation.mask(photo.width, photo.height).view(np.bool_)] = value
            visible = set(np.unique(pixels).tolist())
            annotations = tuple(annotation for annotation, value in values if value in visible)
            hidden += len(values) - len(annotations)
            written.append(replace(photo, annotations=annotations))
            Image.fromarray(pixels).save(out / split / "masks" / f"{Path(name).stem}.png")
        splits[split] = tuple(written)
    notes = (f"{hidden} instances are covered by others entirely and lost",) if hidden else ()
    return replace(labelled, splits=splits, notes=(*labelled.notes, *notes))
