"""Reads `DIR/{train,val,test}/images/*` + `annotations.json` (COCO json) into plain objects."""

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pumpseg.errors import DatasetError, SourceError
from pumpseg.images import IMAGE_SUFFIXES, read_image
from pumpseg_train.dataset import masks


@dataclass(frozen=True)
class Annotation:
    """One labelled instance, or a crowd region. `class_id` counts from 1 in the order of `Dataset.classes`."""

    id: int
    class_id: int
    crowd: bool
    segmentation: Any  # polygons [[x0, y0, x1, y1, ...], ...] or a COCO run-length encoding

    def mask(self, width: int, height: int) -> np.ndarray:
        """The mask, uint8 (height, width) of 0 and 1."""
        return masks.decode(self.segmentation, width, height)


@dataclass(frozen=True, eq=False)
class Photo:
    """An image file and its annotations; sizes as the json gives them. Compared by identity."""

    id: int
    path: Path
    width: int
    height: int
    annotations: tuple[Annotation, ...]


@dataclass(frozen=True)
class Dataset:
    """One split. `category_ids` are those of the json, in the order of `classes`."""

    json_path: Path
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    photos: tuple[Photo, ...]


def read_dataset(folder: Path, split: str | None = None) -> Dataset:
    """Reads `folder/split`, or `folder` itself when it holds the annotations.

    Raises:
        DatasetError: something is missing or contradicts itself; the message names it.
    """
    root = folder / split if split else folder
    json_path = root / "annotations.json"
    if not json_path.is_file():
        raise DatasetError(f"{json_path} does not exist: a data set is DIR/{{train,val}}/annotations.json + images/")
    try:
        content = json.loads(json_path.read_text(encoding="utf-8"))
        categories = sorted(content["categories"], key=lambda category: category["id"])
        classes = tuple(category["name"] for category in categories)
        category_ids = tuple(category["id"] for category in categories)
        for what, values in (("name", classes), ("id", category_ids)):
            if twice := [value for value in values if values.count(value) > 1]:
                raise DatasetError(f"{json_path} has two categories of the {what} {twice[0]!r}")
        by_photo: dict[int, list[Annotation]] = {image["id"]: [] for image in content["images"]}
        for item in content["annotations"]:
            what = f"{json_path}: annotation {item['id']}"
            for key, known in (("category_id", category_ids), ("image_id", by_photo)):
                if item[key] not in known:
                    raise DatasetError(f"{what} has the {key} {item[key]}, which is not in the file")
            if not _is_mask(item.get("segmentation")):
                raise DatasetError(f"{what} has no mask: its segmentation is {item.get('segmentation')!r:.60}")
            class_id = category_ids.index(item["category_id"]) + 1
            by_photo[item["image_id"]].append(
                Annotation(item["id"], class_id, bool(item.get("iscrowd", 0)), item["segmentation"])
            )
        photos = tuple(
            Photo(
                image["id"],
                root / "images" / image["file_name"],
                int(image["width"]),
                int(image["height"]),
                tuple(by_photo[image["id"]]),
            )
            for image in content["images"]
        )
    except DatasetError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{json_path} is not COCO json: {type(error).__name__} {error}") from error
    if not photos:
        raise DatasetError(f"{json_path} lists no images")
    if missing := [photo.path for photo in photos if not photo.path.is_file()]:
        raise DatasetError(f"{len(missing)} of {len(photos)} images are missing, the first is {missing[0]}")
    return Dataset(json_path, classes, category_ids, photos)


def _is_mask(segmentation: Any) -> bool:
    """Whether this is a list of polygons or a run-length encoding: sets for detection often have neither."""
    if isinstance(segmentation, dict):
        counts, size = segmentation.get("counts"), segmentation.get("size", (0, 0))
        return isinstance(counts, str) or (isinstance(counts, list) and sum(counts) == size[0] * size[1] > 0)
    return isinstance(segmentation, list) and bool(segmentation) and all(map(_is_polygon, segmentation))


def _is_polygon(points: Any) -> bool:
    """Whether this is a list x y x y ... of three corners and more. Raises DatasetError as `masks.ring_of`."""
    return len(points) >= 6 and bool(masks.ring_of(points).size)


def list_images(folder: Path) -> tuple[Path, ...]:
    """The image files below `folder`, sorted; hidden ones, such as macOS writes beside others, are left out.

    Raises:
        DatasetError: there are none.
    """
    found = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    paths = tuple(sorted(path for path in found if not path.name.startswith(".")))
    if not paths:
        raise DatasetError(f"{folder} holds no images")
    return paths


def read_frame(path: Path) -> np.ndarray:
    """The image as a camera would give it, uint8 BGR (H, W, 3), upright.

    Raises:
        DatasetError: the file is no readable image, or was cut short.
    """
    try:
        return read_image(path)
    except SourceError as error:
        raise DatasetError(str(error)) from None


@functools.lru_cache(maxsize=512)
def load_image(path: Path, longest: int | None = None) -> np.ndarray:
    """The image, uint8 RGB (H, W, 3), upright, shrunk to at most `longest` pixels a side. Do not write into it.

    Raises:
        DatasetError: the file is no readable image.
    """
    image = read_frame(path)
    if longest and max(image.shape[:2]) > longest:
        scale = longest / max(image.shape[:2])
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    image = np.ascontiguousarray(image[..., ::-1])
    image.setflags(write=False)
    return image
