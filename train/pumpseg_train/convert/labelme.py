"""labelme: a json next to every image."""

import base64
import io
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pumpseg.errors import DatasetError
from pumpseg_train.convert.source import Reading, images_in, split_folders
from pumpseg_train.convert.via import round_polygon
from pumpseg_train.dataset.atomic_folder import place_photos
from pumpseg_train.dataset.foreign_path import find_photo
from pumpseg_train.dataset.input_file import read_json
from pumpseg_train.dataset.labelled_set import Annotation, LabelledSet, sort_classes
from pumpseg_train.dataset.masks import decode, encode, finite, rings_of
from pumpseg_train.dataset.photo_file import size_of

_VERSION = "5.5.0"  # of the format that is written
# Kinds whose points are an outline: rectangles have four corners in later versions, rotated ones in X-AnyLabeling.
_OUTLINES = ("polygon", "rectangle", "rotation", "oriented_rectangle", "quadrilateral")
_SUFFIXES = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"BM": ".bmp", b"II": ".tif", b"MM": ".tif", b"RI": ".webp"}
_NOT_LABELME = (ValueError, KeyError, TypeError, AttributeError, OverflowError, SyntaxError, OSError, RecursionError)


def read(source: Path, split: str, classes: Sequence[str], scratch: Path | None = None) -> LabelledSet:
    """Reads the json files of SOURCE/{train,val,test}, or of one folder; shapes with one group_id are one instance.

    Images without a json are not labelled yet and left out, and so are shapes without an area. scratch: a folder for
    photos that are in a json only (imageData). Raises DatasetError.
    """
    reading, unlabelled = Reading(), 0
    for name, folder in split_folders(source, split).items():
        reading.begin(name)
        images = {_read_file(path, reading, scratch) for path in sorted(folder.glob("*.json"))}
        unlabelled += len(set(images_in(folder)) - images)
    if unlabelled:
        reading.notes.append(f"images left out because they have no json: {unlabelled}")
    return sort_classes(reading.finish())


def _read_file(path: Path, reading: Reading, scratch: Path | None) -> Path:
    """Adds the photo of a json to `reading`; returns its path."""
    content = read_json(path, "labelme json")
    try:
        image = _image(path, content, reading, scratch)
        given = tuple(int(float(content.get(key) or 0)) for key in ("imageWidth", "imageHeight"))
        size = (given[0], given[1]) if all(given) else size_of(image)[:2]
        parts: dict[Any, list[tuple[str, Any, bool]]] = defaultdict(list)
        for number, shape in enumerate(content["shapes"]):
            group = shape.get("group_id")
            key = ("alone", number) if group is None else ("group", group, shape["label"])
            crowd = bool((shape.get("flags") or {}).get("iscrowd", False))
            if not isinstance(shape["label"], str):
                raise TypeError(f"label {shape['label']!r} is not text")
            kind = shape.get("shape_type") or "polygon"
            segmentation = _segmentation(kind, shape, size)
            if segmentation is None:
                reading.leave_out("shapes left out because they have no area", str(path), f"{kind:.30}")
            else:
                parts[key].append((shape["label"], segmentation, crowd))
    except DatasetError:
        raise
    except (*_NOT_LABELME, Image.DecompressionBombError) as error:
        raise DatasetError(f"{path} is not labelme json: {type(error).__name__} {error}") from error
    annotations = [
        Annotation(reading.class_id(label), _joined([segmentation for _, segmentation, _ in shapes], size), crowd)
        for shapes in parts.values()
        for label, _, crowd in shapes[:1]
    ]
    reading.add(image, annotations, size)
    return image


def _image(path: Path, content: dict[str, Any], reading: Reading, scratch: Path | None) -> Path:
    """The photo that a json is about, which is written to `scratch` where it is in the json only."""
    image = find_photo([path.parent, path.parent.parent], content["imagePath"])
    if image.is_file():
        reading.found(image, content["imagePath"])
        return image
    if not content.get("imageData") or scratch is None:
        raise DatasetError(f"{path} is about {image}, which does not exist")
    data = base64.b64decode(content["imageData"])
    suffix = _SUFFIXES.get(data[:2])
    if suffix is None:
        raise ValueError("its imageData is not an image")
    folder = scratch / str(len(list(scratch.iterdir())))  # names may repeat
    folder.mkdir()
    image = folder / f"{path.stem}{suffix}"
    image.write_bytes(data)
    return image


def _segmentation(kind: str, shape: dict[str, Any], size: tuple[int, int]) -> Any:
    """A COCO segmentation, or None for a shape without an area, and for one of a kind that is not known."""
    points = [(x, y) for x, y in shape["points"]]
    if kind == "mask":
        return _pasted(shape["mask"], points, size)
    if kind == "circle" and len(points) == 2:
        (x1, y1), (x2, y2) = points
        return [finite(round_polygon(x1, y1, *[float(np.hypot(x2 - x1, y2 - y1))] * 2))]
    if kind == "rectangle" and len(points) == 2:
        (x1, y1), (x2, y2) = points
        return [finite([x1, y1, x2, y1, x2, y2, x1, y2])]
    if kind in _OUTLINES and len(points) >= 3:
        return [finite(value for point in points for value in point)]
    return None


def _pasted(encoded: str, points: list[tuple[float, float]], size: tuple[int, int]) -> Any:
    """The segmentation of a mask PNG in the box between two points."""
    (x1, y1), (x2, y2) = ((int(x), int(y)) for x, y in points)
    mask = np.zeros((size[1], size[0]), np.bool_)
    area = mask[y1 : y2 + 1, x1 : x2 + 1]
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
        if image.size != area.shape[::-1]:
            raise ValueError(f"a mask of {image.width}x{image.height} pixels in a box from {x1},{y1} to {x2},{y2}")
        area |= np.asarray(image) != 0
    return encode(mask)


def _joined(parts: list[Any], size: tuple[int, int]) -> Any:
    if all(isinstance(part, list) for part in parts):
        return [ring for part in parts for ring in part]
    if len(parts) == 1:
        return parts[0]
    return encode(np.maximum.reduce([decode(part, *size) for part in parts]))


def write(labelled: LabelledSet, out: Path, *, link: bool = False) -> LabelledSet:
    """Writes `out`/{train,val,test}/ with a json next to every image.

    Polygons become polygon shapes, those of one instance joined by a group_id; RLE counts become mask shapes.
    Crowd regions have the flag iscrowd. Returns what was written, which is all of it.
    """
    for split, photos in labelled.splits.items():
        folder = out / split
        for photo, name in place_photos(photos, folder, link=link):
            shapes: list[dict[str, Any]] = []
            for group, annotation in enumerate(photo.annotations, start=1):
                common = {
                    "label": labelled.name_of(annotation),
                    "flags": {"iscrowd": True} if annotation.crowd else {},
                }
                if isinstance(annotation.segmentation, list):
                    rings = rings_of(annotation.segmentation, photo.width, photo.height)
                    number = group if len(rings) > 1 else None
                    for ring in rings:
                        shape = {"points": ring.tolist(), "group_id": number, "shape_type": "polygon"}
                        shapes.append({**common, **shape})
                else:
                    shape = _mask_shape(annotation.mask(photo.width, photo.height))
                    shapes.append({**common, "group_id": None, "shape_type": "mask", **shape})
            content: dict[str, Any] = {
                "version": _VERSION,
                "flags": {},
                "shapes": shapes,
                "imagePath": name,
                "imageData": None,
                "imageHeight": photo.height,
                "imageWidth": photo.width,
            }
            (folder / f"{Path(name).stem}.json").write_text(json.dumps(content) + "\n", encoding="utf-8")
    return labelled


def _mask_shape(mask: np.ndarray) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x1, y1, x2, y2 = int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])
    buffer = io.BytesIO()
    Image.fromarray(mask[y1 : y2 + 1, x1 : x2 + 1] * np.uint8(255)).save(buffer, "PNG")
    return {"points": [[x1, y1], [x2, y2]], "mask": base64.b64encode(buffer.getvalue()).decode()}
