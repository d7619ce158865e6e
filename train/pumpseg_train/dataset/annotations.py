"""annotations.json, which is COCO json: read, with its faults raised or reported, and written."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from pycocotools import mask as coco_mask

from pumpseg.atomic_file import write_json
from pumpseg.errors import DatasetError
from pumpseg_train.dataset.atomic_folder import place_photos
from pumpseg_train.dataset.labelled_set import SPLITS, Annotation, AnnotationsFile, LabelledSet, Photo
from pumpseg_train.dataset.masks import encode, readable_segmentation

ANNOTATIONS = "annotations.json"

_Record = dict[str, Any]
_ID = int | float | str
_KEYS: dict[str, dict[str, Any]] = {
    "categories": {"id": _ID, "name": str},
    "images": {"id": _ID, "file_name": str, "width": object, "height": object},
    "annotations": {"id": _ID, "image_id": _ID, "category_id": _ID},
}


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
    """Raises DatasetError for an annotation of an unknown image or category: nothing can be counted or divided then."""
    if fault.kind == "unknown reference":
        refuse(fault)


def read_dataset(folder: Path, split: str | None = None) -> LabelledSet:
    """Reads `folder/split`, or `folder` itself when it holds the annotations, to train on or to evaluate with.

    Raises:
        DatasetError: something is missing or contradicts itself; the message names it.
    """
    root = folder / split if split else folder
    json_path = root / ANNOTATIONS
    if not json_path.is_file():
        raise DatasetError(f"{json_path} does not exist: a data set is DIR/{{train,val}}/annotations.json + images/")
    labelled = read_files({split or root.name: (json_path, root / "images")})
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
    folders = {name: root / name for name in SPLITS if (root / name / ANNOTATIONS).is_file()}
    if not folders and (root / ANNOTATIONS).is_file():
        folders = {root.resolve().name: root}
    if not folders:
        raise DatasetError(f"{root} holds no data set: there is no {ANNOTATIONS} in it or in its {', '.join(SPLITS)}")
    files = {name: (folder / ANNOTATIONS, folder / "images") for name, folder in folders.items()}
    return read_files(files, on_fault)


def read_files(files: Mapping[str, tuple[Path, Path]], on_fault: OnFault = refuse) -> LabelledSet:
    """Reads the json file of each split, whose photos are in the folder next to it in `files`.

    Classes are those of all splits: in the order of the category ids of the first, then what only others have.
    Raises DatasetError for a file that is not COCO json at all; and what `on_fault` raises.
    """
    contents = {split: _load(json_path) for split, (json_path, _) in files.items()}
    in_order = (c for content in contents.values() for c in sorted(content["categories"], key=lambda c: c["id"]))
    classes = tuple(dict.fromkeys(category["name"] for category in in_order))
    splits = {}
    for split, (json_path, folder) in files.items():
        for fault in _reference_faults(contents[split], json_path, split):
            on_fault(fault)
        splits[split] = _photos(contents[split], json_path, folder, split, classes, on_fault)
    about = {split: {key: content[key] for key in content if key not in _KEYS} for split, content in contents.items()}
    return LabelledSet(
        classes,
        splits,
        files={
            split: AnnotationsFile(json_path, tuple(contents[split]["categories"]), about[split])
            for split, (json_path, _) in files.items()
        },
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        for key, kinds in _KEYS.items():
            for number, item in enumerate(content[key]):
                for name, kind in kinds.items():
                    if not isinstance(item[name], kind):
                        raise TypeError(f"{key}[{number}] has the {name} {item[name]!r:.60}")
        sorted(category["id"] for category in content["categories"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path} is not COCO json: {type(error).__name__} {error}") from error
    return content


def _reference_faults(content: Mapping[str, list[_Record]], json_path: Path, split: str) -> Iterator[Fault]:
    for what, items in (("category", "categories"), ("image", "images"), ("annotation", "annotations")):
        for number, count in _repeated(item["id"] for item in content[items]):
            fatal = what == "category"
            yield Fault(json_path, split, "id used twice", f"{what} {number}", f"{count} times", fatal)
    for name, count in _repeated(category["name"] for category in content["categories"]):
        yield Fault(json_path, split, "class named twice", name, f"{count} categories have this name")
    for name, count in _repeated(image["file_name"] for image in content["images"]):
        yield Fault(json_path, split, "image listed twice", name, f"{count} times", fatal=False)
    known = {
        "image_id": {image["id"] for image in content["images"]},
        "category_id": {category["id"] for category in content["categories"]},
    }
    for annotation in content["annotations"]:
        for key, ids in known.items():
            if annotation[key] not in ids:
                detail = f"{key} {annotation[key]} is not in the file"
                yield Fault(json_path, split, "unknown reference", f"annotation {annotation['id']}", detail)


def _repeated(values: Iterable[Any]) -> list[tuple[Any, int]]:
    return [(value, count) for value, count in Counter(values).items() if count > 1]


def _photos(
    content: Mapping[str, list[_Record]],
    json_path: Path,
    folder: Path,
    split: str,
    classes: Sequence[str],
    on_fault: OnFault,
) -> tuple[Photo, ...]:
    class_ids = {category["id"]: classes.index(category["name"]) + 1 for category in content["categories"]}
    records = defaultdict(list)
    for record in content["annotations"]:
        records[record["image_id"]].append(record)
    photos = []
    for image in content["images"]:
        annotations = []
        for record in records[image["id"]]:
            segmentation, kind, detail = readable_segmentation(record.get("segmentation"))
            if kind:
                what = f"{image['file_name']}, annotation {record['id']}"
                on_fault(Fault(json_path, split, kind, what, detail, fatal=segmentation is None))
            class_id = class_ids.get(record["category_id"], 0)
            crowd = bool(record.get("iscrowd", 0))
            annotations.append(Annotation(class_id, segmentation, crowd, record["id"], record))
        width, height = _size(image, json_path)
        path = find_photo(folder, image["file_name"])
        photos.append(Photo(path, width, height, tuple(annotations), image["id"], image))
    return tuple(photos)


def _size(image: _Record, json_path: Path) -> tuple[int, int]:
    try:
        return int(image["width"]), int(image["height"])
    except (TypeError, ValueError, OverflowError):
        seen = f"{image['width']!r:.20} x {image['height']!r:.20}"
        raise DatasetError(f"{json_path}: {image['file_name']} has the size {seen}: numbers are needed") from None


def find_photo(folder: Path, name: str) -> Path:
    """The file below `folder` that a json means by `name`, which may be a path on another machine.

    That is the longest tail of it that exists; where none does, all of it, but never a path out of the folder.
    """
    if (folder / name).is_file() and ".." not in name and not Path(name).is_absolute():
        return folder / name
    parts = [part for part in PureWindowsPath(name).parts if part not in ("..", ".") and not part.endswith(("\\", "/"))]
    tails = (folder.joinpath(*parts[start:]) for start in range(len(parts)))
    return next((path for path in tails if path.is_file()), folder.joinpath(*parts))


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
