"""Instance numbers as the pixels of one PNG a photo: images/NAME.jpg and masks/NAME.png, 8 or 16 bits or a palette.

0 is background. With several classes a value is 1000 * class number + instance number, as in Cityscapes' instanceIds; a
value below 1000 is then a region of that class without instances, which becomes a crowd region. 255 in a palette is
Pascal VOC's "void".
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from pumpseg.errors import DatasetError
from pumpseg_train.convert.mask_png import images_with_masks, open_mask
from pumpseg_train.convert.source import Reading, only_class, split_folders
from pumpseg_train.dataset.atomic_folder import place_photos
from pumpseg_train.dataset.labelled_set import Annotation, LabelledSet, Photo, without_crowds
from pumpseg_train.dataset.masks import encode

_PER_CLASS = 1000
_VOID = 255


def read(source: Path, split: str, classes: Sequence[str]) -> LabelledSet:
    """Reads SOURCE/{train,val,test} or one folder. Raises DatasetError."""
    reading = Reading(list(classes))
    for name, folder in split_folders(source, split).items():
        reading.begin(name)
        for image in images_with_masks(folder):
            if not classes:
                only_class(classes, "pictures of instance numbers")
            path = folder / "masks" / f"{image.stem}.png"
            if not path.is_file():
                raise DatasetError(f"{image} has no mask {path}")
            reading.add(image, *_annotations(path, classes))
    return reading.finish()


def _annotations(path: Path, classes: Sequence[str]) -> tuple[list[Annotation], tuple[int, int] | None]:
    """The annotations of an index picture, and its width and height where it has any."""
    with open_mask(path) as image:
        palette, pixels = image.mode == "P", np.asarray(image)
    if pixels.ndim != 2:
        raise DatasetError(f"{path} has {pixels.shape[2]} channels: an index picture has one")
    found = []
    for value in np.unique(pixels).tolist():
        if value == 0 or (palette and value == _VOID):
            continue
        number, instance = divmod(value, _PER_CLASS) if len(classes) > 1 else (1, value)
        if number == 0:
            number, instance = instance, 0
        if not 1 <= number <= len(classes):
            raise DatasetError(f"{path} has the value {value}, whose class {number} is none of the {len(classes)}")
        found.append(Annotation(number, encode(pixels == value), crowd=instance == 0))
    return found, (pixels.shape[1], pixels.shape[0]) if found else None


def write(labelled: LabelledSet, out: Path, *, link: bool = False) -> LabelledSet:
    """Writes `out`/{train,val,test}/images and masks/NAME.png of 16 bits. Where instances overlap the later one wins.

    Returns what was written: without instances that others cover entirely, and with one class without crowd regions.
    """
    several = len(labelled.classes) > 1
    if not several:
        labelled = without_crowds(labelled, "an index of one class has none")
    hidden, splits = 0, {}
    for split, photos in labelled.splits.items():
        (out / split / "masks").mkdir(parents=True)
        written = []
        for photo, name in place_photos(photos, out / split / "images", link=link):
            pixels = np.zeros((photo.height, photo.width), np.uint16)
            values = _values(photo, several=several)
            for annotation, value in values:
                pixels[annotation.mask(photo.width, photo.height).view(np.bool_)] = value
            visible = set(np.unique(pixels).tolist())
            annotations = tuple(annotation for annotation, value in values if value in visible)
            hidden += len(values) - len(annotations)
            written.append(replace(photo, annotations=annotations))
            Image.fromarray(pixels).save(out / split / "masks" / f"{Path(name).stem}.png")
        splits[split] = tuple(written)
    notes = (f"instances lost because others cover them entirely: {hidden}",) if hidden else ()
    return replace(labelled, splits=splits, notes=(*labelled.notes, *notes))


def _values(photo: Photo, *, several: bool) -> list[tuple[Annotation, int]]:
    """The annotations, crowd regions first, each with its value. Raises DatasetError for too many of them."""
    values, counts = [], Counter[int]()
    for annotation in sorted(photo.annotations, key=lambda annotation: not annotation.crowd):
        number = annotation.class_id
        counts[number] += not annotation.crowd
        value = counts[number]
        if several:
            value = number if annotation.crowd else _PER_CLASS * number + value
        if value >= 1 << 16 or counts[number] >= _PER_CLASS:
            raise DatasetError(f"{photo.path} has more classes or instances than an index picture can hold")
        values.append((annotation, value))
    return values
