"""COCO json: the layout of this project, that of COCO itself, Roboflow's, or a single file."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pumpseg.errors import DatasetError
from pumpseg_train.convert.source import Reading, by_split, split_folders, split_of
from pumpseg_train.dataset.annotations import read_masks, write_set
from pumpseg_train.dataset.labelled_set import Annotation, LabelledSet, Photo
from pumpseg_train.dataset.masks import decode, encode

_CVAT = "default"  # what CVAT calls the one split of a task


def read(source: Path, split: str, classes: Sequence[str], images: Path | None = None) -> LabelledSet:
    """Reads DIR/{train,val,test}/annotations.json + images/, COCO's annotations/instances_train2017.json +
    train2017/, CVAT's annotations/instances_default.json + images/, Roboflow's
    {train,valid,test}/_annotations.coco.json, FiftyOne's labels.json + data/, or one json file with its folder of
    images.

    images: the folder of the photos, wherever the json is. Annotations without a mask are left out and counted.
    Raises DatasetError.
    """
    reading = Reading()
    files = {}
    for name, (json_path, usual) in _find(source, split, reading.notes).items():
        files[name] = json_path, [images] if images else usual
    return read_jsons(files, reading)


def read_jsons(files: Mapping[str, tuple[Path, Sequence[Path]]], reading: Reading) -> LabelledSet:
    """The json file of each split, and the folders that may hold its photos. Raises DatasetError."""
    existing = {}
    for name, (json_path, places) in files.items():
        existing[name] = json_path, [place for place in places if place.is_dir()]
        if not existing[name][1]:
            tried = " or ".join(map(str, places))
            raise DatasetError(f"the photos of {json_path} are missing: no folder {tried}; name it with --images")
    found = read_masks(existing)
    reading.classes += found.classes
    reading.notes += found.notes
    for name, photos in found.splits.items():
        reading.begin(name)
        for photo in photos:
            reading.found(photo.path, photo.record["file_name"])
            annotations = [_compressed(annotation, photo) for annotation in photo.annotations]
            reading.add(photo.path, annotations, (photo.width, photo.height))
    used = {annotation.class_id for photo in found.photos for annotation in photo.annotations}
    parents = {str(c.get("supercategory")) for file in found.files.values() for c in file.categories}
    for name in parents.intersection(found.classes):
        if found.classes.index(name) + 1 not in used:
            reading.notes.append(
                f"the class {name!r} has no annotations and is the parent of others: leave it out with --classes"
            )
    return reading.finish()


def _find(source: Path, split: str, notes: list[str]) -> dict[str, tuple[Path, list[Path]]]:
    """The json file of each split, and the folders that may hold its photos; what is left out goes into `notes`."""
    if source.is_file():
        return {split: (source, photo_folders(source))}
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
        kinds.append(("labels.json", folder / "data"))
        there = [(folder / json_name, [images]) for json_name, images in kinds if (folder / json_name).is_file()]
        if len(there) > 1:
            raise DatasetError(f"{folder} holds both {there[0][0].name} and {there[1][0].name}: name one of them")
        if there:
            found[name] = there[0]
        else:
            notes.append(f"{folder} holds no COCO json and was left out")
    if not found and stems:
        raise DatasetError(
            f"the name of {source / 'annotations'}/instances_{stems[0]}.json means no split: convert the file itself, "
            "with --split and --images"
        )
    if not found:
        raise DatasetError(
            f"{source} holds no COCO json: annotations.json, _annotations.coco.json, labels.json or "
            "annotations/instances_*.json"
        )
    return found


def photo_folders(json_path: Path) -> list[Path]:
    """Where the photos of a json file may be."""
    return [json_path.parent / "images", json_path.parent / "data", json_path.parent]


def _compressed(annotation: Annotation, photo: Photo) -> Annotation:
    """RLE counts in their compressed form, polygons as they are."""
    segmentation = annotation.segmentation
    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], list):
        segmentation = encode(decode(segmentation, photo.width, photo.height))
    return replace(annotation, segmentation=segmentation)


def write(labelled: LabelledSet, out: Path, *, link: bool = False) -> LabelledSet:
    """Writes `out`/{train,val,test}/images + annotations.json; polygons stay polygons, RLE stays RLE.

    Returns what was written, which is all of it.
    """
    write_set(labelled, out, link=link)
    return labelled
