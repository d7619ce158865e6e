"""COCO json: the layout of this project, that of COCO itself, Roboflow's, or a single file."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import Any

from pycocotools import mask as coco_mask

from pumpseg.errors import DatasetError
from pumpseg_train.dataset.atomic_folder import place_image
from pumpseg_train.dataset.labelled_set import (
    Label,
    LabelledPhoto,
    LabelledSet,
    by_split,
    labelled_photo,
    labelled_set,
    split_folders,
    split_of,
)
from pumpseg_train.dataset.masks import decode, encode, ring_of

_CVAT = "default"  # what CVAT calls the one split of a task


def read(source: Path, split: str, classes: Sequence[str], images: Path | None = None) -> LabelledSet:
    """Reads DIR/{train,val,test}/annotations.json + images/, COCO's annotations/instances_train2017.json +
    train2017/, CVAT's annotations/instances_default.json + images/, Roboflow's
    {train,valid,test}/_annotations.coco.json, or one json file with its folder of images.

    images: the folder of the photos, wherever the json lies. Raises DatasetError.
    """
    splits, clipped, notes = {}, list[str](), list[str]()
    names: dict[int, str] = {}
    for name, (json_path, usual) in _find(source, split, notes).items():
        content = _load(json_path)
        places = [images] if images else usual
        folder = next((place for place in places if place.is_dir()), None)
        if folder is None:
            looked = " or ".join(map(str, places))
            raise DatasetError(
                f"the photos of {json_path} are missing: there is no folder {looked}; name it by --images"
            )
        for category in content["categories"]:
            if names.setdefault(category["id"], category["name"]) != category["name"]:
                raise DatasetError(f"{json_path}: category {category['id']} has another name than in the other split")
        splits[name] = _photos(content, json_path, folder, clipped)
    order = [names[number] for number in sorted(names)]
    return labelled_set(splits, tuple(dict.fromkeys(order)), clipped, notes)


def _find(source: Path, split: str, notes: list[str]) -> dict[str, tuple[Path, list[Path]]]:
    """The json file of each split, and the folders that its photos may lie in; what is left out goes into `notes`."""
    if source.is_file():
        return {split: (source, [source.parent / "images", source.parent])}
    if not source.is_dir():
        raise DatasetError(f"{source} does not exist")
    found = {}
    stems = [path.stem.removeprefix("instances_") for path in sorted((source / "annotations").glob("instances_*.json"))]
    meant = {f"instances_{stem}.json": split if stem == _CVAT else split_of(stem) for stem in stems}
    for name, json_name in by_split(source / "annotations", meant).items():
        stem = Path(json_name).stem.removeprefix("instances_")
        places = [source / stem, source / "images" / stem]
        found[name] = (source / "annotations" / json_name, [*places, source / "images"] if stem == _CVAT else places)
    if found:
        return found
    for name, folder in split_folders(source, split).items():
        kinds = [("annotations.json", folder / "images"), ("_annotations.coco.json", folder)]
        there = [(folder / json_name, [images]) for json_name, images in kinds if (folder / json_name).is_file()]
        if len(there) > 1:
            raise DatasetError(f"{folder} holds both {there[0][0].name} and {there[1][0].name}: name the one meant")
        if there:
            found[name] = there[0]
        else:
            notes.append(f"{folder} holds no COCO json and was left out")
    if not found and stems:
        raise DatasetError(
            f"{source / 'annotations'}/instances_{stems[0]}.json is named like no split: convert the file itself, "
            "with --split and --images"
        )
    if not found:
        raise DatasetError(
            f"{source} holds no COCO json: looked for annotations.json, _annotations.coco.json and "
            "annotations/instances_*.json"
        )
    return found


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        for key, needed in (
            ("categories", ("id", "name")),
            ("images", ("id", "file_name", "width", "height")),
            ("annotations", ("id", "image_id", "category_id")),
        ):
            for item in content[key]:
                for name in needed:
                    item[name]
        for key, name in (("images", "file_name"), ("categories", "name")):
            for item in content[key]:
                if not isinstance(item[name], str):
                    raise TypeError(f"{name} {item[name]!r} is no text")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path} is not COCO json: {type(error).__name__} {error}") from error
    return content


def _photos(content: dict[str, Any], json_path: Path, folder: Path, clipped: list[str]) -> list[LabelledPhoto]:
    names = {category["id"]: category["name"] for category in content["categories"]}
    labels = defaultdict(list)
    known = {image["id"] for image in content["images"]}
    for item in content["annotations"]:
        what = f"{json_path}: annotation {item['id']}"
        if item["category_id"] not in names or item["image_id"] not in known:
            raise DatasetError(f"{what} is of a category or an image that the file does not have")
        segmentation = item.get("segmentation")
        if not segmentation:
            raise DatasetError(f"{what} has no mask, only a box")
        labels[item["image_id"]].append(Label(names[item["category_id"]], segmentation, bool(item.get("iscrowd", 0))))
    photos = []
    for image in content["images"]:
        # Only below the folder, whatever the file says; Windows tools write backslashes.
        parts = [part for part in PureWindowsPath(image["file_name"]).parts if part not in ("..", ".", "/", "\\")]
        path = folder.joinpath(*parts)
        try:
            size = (int(image["width"]), int(image["height"]))
        except (TypeError, ValueError, OverflowError):
            seen = f"{image['width']!r} x {image['height']!r}"
            raise DatasetError(f"{json_path}: {image['file_name']} is of {seen} pixels, numbers are needed") from None
        try:
            fitted = [replace(label, segmentation=_text(label.segmentation, size)) for label in labels[image["id"]]]
        except ValueError as error:
            raise DatasetError(f"{json_path}: {image['file_name']}: {error}") from error
        photos.append(labelled_photo(path, fitted, size, clipped))
    return photos


def _text(segmentation: Any, size: tuple[int, int]) -> Any:
    """Run lengths in their compressed form, polygons as they are."""
    try:
        if isinstance(segmentation, list):
            return [ring_of(points).ravel().tolist() for points in segmentation if len(points) >= 6]
        if isinstance(segmentation["counts"], list):
            return encode(decode(segmentation, *size))
        return {"size": [int(side) for side in segmentation["size"]], "counts": segmentation["counts"]}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"a mask is neither polygons nor run lengths: {error}: {segmentation!r:.80}") from error


def write(labelled: LabelledSet, out: Path, *, link: bool) -> LabelledSet:
    """Writes `out`/{train,val,test}/images + annotations.json; polygons stay polygons, run lengths run lengths.

    Returns what was written, which is all of it.
    """
    for split, photos in labelled.splits.items():
        folder, taken = out / split, set[str]()
        (folder / "images").mkdir(parents=True)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for photo in photos:
            name = place_image(photo.path, folder / "images", taken, link=link)
            images.append({"id": len(images) + 1, "file_name": name, "width": photo.width, "height": photo.height})
            for label in photo.labels:
                rle = encode(decode(label.segmentation, photo.width, photo.height))
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": len(images),
                        "category_id": labelled.classes.index(label.class_name) + 1,
                        "iscrowd": int(label.crowd),
                        "bbox": coco_mask.toBbox(rle).tolist(),
                        "area": int(coco_mask.area(rle)),
                        "segmentation": label.segmentation,
                    }
                )
        content = {
            "categories": [{"id": number, "name": name} for number, name in enumerate(labelled.classes, start=1)],
            "images": images,
            "annotations": annotations,
        }
        (folder / "annotations.json").write_text(json.dumps(content) + "\n", encoding="utf-8")
    return labelled
