"""VGG Image Annotator, versions 1 and 2: via_region_data.json or a saved project, next to the images."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pumpseg.errors import DatasetError
from pumpseg_train.convert import coco
from pumpseg_train.convert.source import Reading, only_class, split_folders
from pumpseg_train.dataset.atomic_folder import place_photos
from pumpseg_train.dataset.foreign_path import find_photo
from pumpseg_train.dataset.input_file import read_json
from pumpseg_train.dataset.labelled_set import Annotation, LabelledSet, sort_classes, without_crowds
from pumpseg_train.dataset.masks import finite, one_ring, rings_of

FILE = "via_region_data.json"
_CLASS_KEYS = ("class", "class_name", "label", "name", "type", "object", "category")
_ROUND_CORNERS = 64


def read(source: Path, split: str, classes: Sequence[str]) -> LabelledSet:
    """Reads SOURCE/{train,val}/via_region_data.json as Matterport's sample has it, one such folder, or a json file.

    The class is the region attribute "class", "label", "name", ... or the only one; without any, `classes` must be
    one name. Regions without an area are left out and counted. What VIA exported as COCO json is read as that.
    Raises DatasetError.
    """
    if source.is_file():
        files = {split: source}
    else:
        files = {name: _json_in(folder) for name, folder in split_folders(source, split).items()}
    contents = {name: read_json(path, "VIA json") for name, path in files.items()}
    if all(isinstance(content, dict) and {"images", "annotations"} <= content.keys() for content in contents.values()):
        return coco.read_jsons({name: (path, coco.photo_folders(path)) for name, path in files.items()}, Reading())
    reading = Reading()
    for name, path in files.items():
        reading.begin(name)
        for entry in _entries(contents[name], path):
            try:
                regions = entry["regions"]
                regions = list(regions.values()) if isinstance(regions, dict) else regions
                annotations = []
                for region in regions:
                    class_id = reading.class_id(_class_of(region, classes))
                    shape = region["shape_attributes"]
                    if polygon := _polygon(shape):
                        annotations.append(Annotation(class_id, [polygon]))
                    else:
                        reading.leave_out(
                            "regions left out because they have no area", str(path), f"{shape['name']:.30}"
                        )
                image = find_photo([path.parent], entry["filename"])
            except DatasetError:
                raise
            except (KeyError, TypeError, ValueError, OverflowError, AttributeError, RecursionError) as error:
                raise DatasetError(
                    f"{path}: {str(entry)[:60]}... is not a VIA entry: {type(error).__name__} {error}"
                ) from error
            reading.found(image, entry["filename"])
            reading.add(image, annotations)
    return sort_classes(reading.finish())


def _json_in(folder: Path) -> Path:
    if (folder / FILE).is_file():
        return folder / FILE
    found = sorted(folder.glob("*.json"))
    if len(found) != 1:
        raise DatasetError(f"{folder} holds no {FILE} and {len(found)} other json files: name the file itself")
    return found[0]


def _entries(content: Any, path: Path) -> list[dict[str, Any]]:
    try:
        return list(content.get("_via_img_metadata", content).values())
    except AttributeError as error:
        raise DatasetError(f"{path} is not VIA json: {error}") from error


def _class_of(region: Any, classes: Sequence[str]) -> str:
    if not isinstance(region, dict):
        raise TypeError(f"a region is {region!r:.60}, an object is needed")
    given = region.get("region_attributes", {})
    if not isinstance(given, dict):
        raise TypeError(f"region_attributes is {given!r:.60}, an object is needed")
    attributes = {key: value for key, value in given.items() if value not in ("", {}, None)}
    key = next((name for name in _CLASS_KEYS if name in attributes), None)
    if key is None:
        if len(attributes) != 1:
            return only_class(classes, "VIA regions without a class attribute")
        key = next(iter(attributes))
    value = attributes[key]
    if isinstance(value, dict):  # ticked boxes
        ticked = [name for name, on in value.items() if on]
        if len(ticked) != 1:
            raise ValueError(f"{len(ticked)} boxes of {key} are ticked, 1 is needed")
        value = ticked[0]
    return str(value).strip()


def _polygon(shape: dict[str, Any]) -> list[float]:
    """Flat x y x y ... of a shape; round ones get corners, and one without an area has none."""
    kind = shape["name"]
    if kind in ("polygon", "polyline") and len(shape["all_points_x"]) >= 3:
        points = zip(shape["all_points_x"], shape["all_points_y"], strict=True)
        return finite(value for point in points for value in point)
    if kind == "rect":
        x, y, width, height = (float(shape[key]) for key in ("x", "y", "width", "height"))
        return finite([x, y, x + width, y, x + width, y + height, x, y + height])
    if kind in ("circle", "ellipse"):
        rx, ry = (shape["r"], shape["r"]) if kind == "circle" else (shape["rx"], shape["ry"])
        return finite(round_polygon(shape["cx"], shape["cy"], rx, ry, shape.get("theta", 0)))
    return []


def round_polygon(x: float, y: float, rx: float, ry: float, turn: float = 0.0) -> list[float]:
    """An ellipse about x, y with radii rx and ry, turned by `turn` radians, as flat x y x y ..."""
    points = []
    for step in range(_ROUND_CORNERS):
        angle = 2 * math.pi * step / _ROUND_CORNERS
        along, across = rx * math.cos(angle), ry * math.sin(angle)
        right = along * math.cos(turn) - across * math.sin(turn)
        down = along * math.sin(turn) + across * math.cos(turn)
        points += [x + right, y + down]
    return points


def write(labelled: LabelledSet, out: Path, *, link: bool = False) -> LabelledSet:
    """Writes `out`/{train,val,test}/ as Matterport's sample is, with the class as region attribute "name".

    Returns what was written: VIA has no crowd regions.
    """
    labelled = without_crowds(labelled, "VIA has none")
    for split, photos in labelled.splits.items():
        folder, content = out / split, {}
        for photo, name in place_photos(photos, folder, link=link):
            regions = []
            for annotation in photo.annotations:
                ring = one_ring(rings_of(annotation.segmentation, photo.width, photo.height)).round(2).tolist()
                shape = {"name": "polygon", "all_points_x": [x for x, _ in ring], "all_points_y": [y for _, y in ring]}
                name_of_class = {"name": labelled.name_of(annotation)}
                regions.append({"shape_attributes": shape, "region_attributes": name_of_class})
            size = (folder / name).stat().st_size
            entry = {"filename": name, "size": size, "regions": regions, "file_attributes": {}}
            content[f"{name}{size}"] = entry
        (folder / FILE).write_text(json.dumps(content) + "\n", encoding="utf-8")
    return labelled
