"""annotations.json, which is COCO json: read, with its faults raised or reported, and written."""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from pumpseg.atomic_file import write_json
from pumpseg.errors import DatasetError
from pumpseg_train.dataset.atomic_folder import place_photos
from pumpseg_train.dataset.foreign_path import find_photo, tails
from pumpseg_train.dataset.input_file import read_json, refuse_zip
from pumpseg_train.dataset.labelled_set import SPLITS, Annotation, AnnotationsFile, LabelledSet, Photo, map_annotations
from pumpseg_train.dataset.masks import MAX_PIXELS, encode, readable_segmentation
from pumpseg_train.dataset.photo_file import size_of

ANNOTATIONS = "annotations.json"

_Record = dict[str, Any]
_ID = int | float | str
_KEYS: dict[str, dict[str, Any]] = {
    "categories": {"id": _ID, "name": str},
    "images": {"id": _ID, "file_name": str},
    "annotations": {"id": _ID, "image_id": _ID, "category_id": _ID},
}
log = logging.getLogger("pumpseg")


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong in a json file. what: the photo, annotation or class; fatal: training would go wrong."""

    json_path: Path
    split: str
    kind: str
    what: str
    detail: str
    fatal: bool = True


OnFault = Callable[[Fault], None]


def refuse(fault: Fault) -> None:
    """Raises DatasetError for a fatal fault."""
    if fault.fatal:
        raise DatasetError(f"{fault.json_path}: {fault.what}: {fault.detail}")


def refuse_references(fault: Fault) -> None:
    """Raises DatasetError for an annotation of an unknown image or category, or with an unclear crowd flag: nothing can
    be counted or divided then."""
    if fault.kind in ("unknown reference", "unclear crowd flag"):
        refuse(fault)


def read_dataset(folder: Path, split: str | None = None) -> LabelledSet:
    """Reads `folder/split`, or `folder` itself when it holds the annotations, to train on or to evaluate with.

    Annotations without a mask are left out; the log says how many.

    Raises:
        DatasetError: something is missing or contradicts itself; the message names it.
    """
    root = folder / split if split else folder
    json_path = root / ANNOTATIONS
    if not json_path.is_file():
        raise DatasetError(f"{json_path} does not exist: a data set is DIR/{{train,val}}/annotations.json + images/")
    labelled = read_masks({split or root.name: (json_path, [root / "images"])})
    for note in labelled.notes:
        log.warning("%s: %s", json_path, note)
    if not labelled.photos:
        raise DatasetError(f"{json_path} lists no images")
    if missing := [photo.path for photo in labelled.photos if not photo.path.is_file()]:
        raise DatasetError(f"{len(missing)} of {len(labelled.photos)} images are missing, the first is {missing[0]}")
    return labelled


def read_splits(root: Path, on_fault: OnFault = refuse_references) -> LabelledSet:
    """The splits below `root`, or `root` itself where it holds the annotations. Images need not exist.

    Raises:
        DatasetError: there is none, or a file is not COCO json at all; and what `on_fault` raises.
    """
    refuse_zip(root)
    folders = {name: root / name for name in SPLITS if (root / name / ANNOTATIONS).is_file()}
    if not folders and (root / ANNOTATIONS).is_file():
        folders = {root.resolve().name: root}
    if not folders:
        raise DatasetError(f"{root} holds no data set: there is no {ANNOTATIONS} in it or in its {', '.join(SPLITS)}")
    files = {name: (folder / ANNOTATIONS, [folder / "images"]) for name, folder in folders.items()}
    return read_files(files, on_fault)


def read_masks(files: Mapping[str, tuple[Path, Sequence[Path]]]) -> LabelledSet:
    """`read_files` without the annotations that have no mask, and a note of their number.

    Raises DatasetError for any other fatal fault, and if there are annotations but none has a mask.
    """
    without_mask: list[Fault] = []

    def on_fault(fault: Fault) -> None:
        if fault.kind == "no mask":
            without_mask.append(fault)
        else:
            refuse(fault)

    labelled = read_files(files, on_fault)
    if not without_mask:
        return labelled
    first, count = without_mask[0], sum(len(photo.annotations) for photo in labelled.photos)
    if len(without_mask) == count:
        raise DatasetError(f"{first.json_path}: none of the {count} annotations has a mask: {first.detail}")
    note = f"annotations left out because they have no mask: {len(without_mask)}, the first: {first.what}"
    masked = map_annotations(labelled, lambda annotation: None if annotation.segmentation is None else annotation)
    return replace(masked, notes=(note,))


def read_files(files: Mapping[str, tuple[Path, Sequence[Path]]], on_fault: OnFault = refuse) -> LabelledSet:
    """Reads the json file of each split, whose photos are in the folders next to it in `files`, see `find_photo`.

    The size of a photo of which the json has none is that of the image file.
    Classes are those of all splits: in the order of the category ids of the first, then what only others have.
    Raises DatasetError for a file that is not COCO json at all; and what `on_fault` raises.
    """
    sources = {split: _Source.load(split, path, places) for split, (path, places) in files.items()}
    names = (category["name"] for source in sources.values() for category in source.sorted_categories)
    classes = tuple(dict.fromkeys(names))
    splits = {}
    for split, source in sources.items():
        for fault in source.reference_faults():
            on_fault(fault)
        splits[split] = tuple(source.photos(classes, on_fault))
    about = {split: AnnotationsFile(source.path, source.categories, source.about) for split, source in sources.items()}
    return LabelledSet(classes, splits, files=about)


@dataclass(frozen=True)
class _Source:
    """The json file of a split, whose photos are in the folders `places`."""

    split: str
    path: Path
    places: Sequence[Path]
    content: Mapping[str, Any]

    @classmethod
    def load(cls, split: str, path: Path, places: Sequence[Path]) -> "_Source":
        """Raises DatasetError for a file that is not COCO json."""
        content = read_json(path, "COCO json")
        try:
            for key, kinds in _KEYS.items():
                for number, item in enumerate(content[key]):
                    for name, kind in kinds.items():
                        if not isinstance(item[name], kind):
                            raise TypeError(f"{key}[{number}] has the {name} {item[name]!r:.60}")
            for image in content["images"]:
                next(tails(image["file_name"]), None)
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{path} is not COCO json: {type(error).__name__} {error}") from error
        return cls(split, path, places, content)

    @property
    def categories(self) -> tuple[_Record, ...]:
        return tuple(self.content["categories"])

    @property
    def sorted_categories(self) -> list[_Record]:
        """By id; numbers come before texts."""
        return sorted(self.categories, key=lambda c: (isinstance(c["id"], str), c["id"]))

    @property
    def about(self) -> dict[str, Any]:
        return {key: value for key, value in self.content.items() if key not in _KEYS}

    def reference_faults(self) -> Iterator[Fault]:
        """Numbers and names that occur twice, and annotations of something that is not in the file."""
        for what, items in (("category", "categories"), ("image", "images"), ("annotation", "annotations")):
            for number, count in _repeated(item["id"] for item in self.content[items]):
                yield self._fault("id used twice", f"{what} {number}", f"{count} times", fatal=what == "category")
        for name, count in _repeated(category["name"] for category in self.categories):
            yield self._fault("class named twice", name, f"{count} categories have this name")
        for name, count in _repeated(image["file_name"] for image in self.content["images"]):
            yield self._fault("image listed twice", name, f"{count} times", fatal=False)
        known = {
            "image_id": {image["id"] for image in self.content["images"]},
            "category_id": {category["id"] for category in self.categories},
        }
        for annotation in self.content["annotations"]:
            for key, ids in known.items():
                number = annotation[key]
                if number not in ids:
                    alike = next((other for other in ids if str(other) == str(number)), None)
                    why = "is not in the file" if alike is None else f"is not {alike!r}: one is text, one a number"
                    shown = number if alike is None else repr(number)
                    yield self._fault("unknown reference", f"annotation {annotation['id']}", f"{key} {shown} {why}")

    def photos(self, classes: Sequence[str], on_fault: OnFault) -> Iterator[Photo]:
        """The photos with their annotations; those whose mask cannot be read have None instead of one."""
        class_ids = {category["id"]: classes.index(category["name"]) + 1 for category in self.categories}
        records = defaultdict(list)
        for record in self.content["annotations"]:
            records[record["image_id"]].append(record)
        for image in self.content["images"]:
            name = image["file_name"]
            path = find_photo(self.places, name)
            size = self._size(image)
            if size is None:
                try:
                    size = size_of(path)[:2]
                except DatasetError as error:
                    on_fault(self._fault("image of unknown size", name, str(error)))
            annotations = []
            for record in records[image["id"]]:
                what = f"{name}, annotation {record['id']}"
                segmentation, kind, detail = readable_segmentation(record.get("segmentation"))
                if kind:
                    on_fault(self._fault(kind, what, detail, fatal=segmentation is None))
                crowd = _flag(record.get("iscrowd"))
                if crowd is None:
                    detail = f"its iscrowd is {record['iscrowd']!r:.60}, 0 or 1 is needed"
                    on_fault(self._fault("unclear crowd flag", what, detail))
                class_id = class_ids.get(record["category_id"], 0)
                annotations.append(
                    Annotation(class_id, segmentation if size else None, bool(crowd), record["id"], record)
                )
            yield Photo(path, *(size or (0, 0)), tuple(annotations), image["id"], image)

    def _size(self, image: _Record) -> tuple[int, int] | None:
        """What the file says that a photo measures, if it does. Raises DatasetError for what is no size."""
        sides = image.get("width"), image.get("height")
        try:
            width, height = (int(float(side or 0)) for side in sides)
        except (TypeError, ValueError, OverflowError):
            width = height = -1
        if min(width, height) < 0 or width * height > MAX_PIXELS:
            seen = " x ".join(f"{side!r:.20}" for side in sides)
            raise DatasetError(
                f"{self.path}: {image['file_name']} has the size {seen}: numbers, {MAX_PIXELS:,} pixels at most"
            )
        return (width, height) if width and height else None

    def _fault(self, kind: str, what: str, detail: str, *, fatal: bool = True) -> Fault:
        return Fault(self.path, self.split, kind, what, detail, fatal)


def _repeated(values: Iterable[Any]) -> list[tuple[Any, int]]:
    return [(value, count) for value, count in Counter(values).items() if count > 1]


def _flag(value: Any) -> bool | None:
    """Whether a flag is set that is a number, a truth value, nothing, or the text of one; None for anything else."""
    try:
        return bool(float(value or 0))
    except (TypeError, ValueError):
        return {"true": True, "false": False}.get(str(value).lower())


class SplitWriter:
    """Collects the images and annotations of a split, which it numbers from 1, for `folder`/annotations.json."""

    def __init__(
        self, folder: Path, categories: Iterable[Mapping[str, Any]], about: Mapping[str, Any] | None = None
    ) -> None:
        self._path = folder / ANNOTATIONS
        self._content: dict[str, Any] = {
            **(about or {}),
            "categories": list(categories),
            "images": [],
            "annotations": [],
        }

    def add(self, image: Mapping[str, Any], annotations: Iterable[Mapping[str, Any]]) -> None:
        """Adds a photo. image: needs file_name, width and height; annotations: category_id, iscrowd, bbox, ..."""
        images, listed = self._content["images"], self._content["annotations"]
        images.append(_numbered(image, id=len(images) + 1))
        for annotation in annotations:
            listed.append(_numbered(annotation, id=len(listed) + 1, image_id=len(images)))

    def write(self) -> None:
        """Writes the file, which appears when it is complete. Raises SinkError."""
        write_json(self._path, self._content, indent=None)


def _numbered(record: Mapping[str, Any], **numbers: int) -> _Record:
    """The record with these numbers: at its beginning, or where it has others."""
    return {**{key: number for key, number in numbers.items() if key not in record}, **record, **numbers}


def write_set(labelled: LabelledSet, out: Path, *, link: bool = False) -> None:
    """Writes `out`/{train,val,test}/images + annotations.json, with class ids as category ids.

    link: hard-links the photos where that is possible.
    """
    categories = [{"id": number, "name": name} for number, name in enumerate(labelled.classes, start=1)]
    for split, photos in labelled.splits.items():
        writer = SplitWriter(out / split, categories)
        for photo, name in place_photos(photos, out / split / "images", link=link):
            image = {"file_name": name, "width": photo.width, "height": photo.height}
            writer.add(image, (_record(annotation, photo) for annotation in photo.annotations))
        writer.write()


def _record(annotation: Annotation, photo: Photo) -> _Record:
    rle = encode(annotation.mask(photo.width, photo.height))
    return {
        "category_id": annotation.class_id,
        "iscrowd": int(annotation.crowd),
        "bbox": coco_mask.toBbox(rle).tolist(),
        "area": int(coco_mask.area(rle)),
        "segmentation": annotation.segmentation,
    }
