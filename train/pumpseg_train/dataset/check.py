"""Everything that is wrong with a data set, to be found before training."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from pumpseg.boxes import box_iou
from pumpseg.errors import DatasetError
from pumpseg.images import IMAGE_SUFFIXES
from pumpseg_train.dataset.annotations import Fault
from pumpseg_train.dataset.labelled_set import Annotation, LabelledSet, Photo
from pumpseg_train.dataset.masks import finite
from pumpseg_train.dataset.photo_file import FINGERPRINT_BITS, PhotoInfo, PhotoTooLargeError, probe_file
from pumpseg_train.progress import Progress

# Of FINGERPRINT_BITS. Scaled, re-encoded and brightened copies of 60 photos differed by up to 34 (all but brightened
# ones by up to 8), the closest different photos of some 500 by 44.
NEAR = 32
TINY = 16  # pixels

_OUTSIDE = 1.0  # pixels that a polygon may leave its picture by: editors round
_BOX_SLACK = 2.0  # pixels that an edge of a box may be off
_BOX_OVERLAP = 0.9  # IoU of a box and that of its mask, where edges are further off
_TWICE = 0.95  # IoU of two masks of one class that are the same object
_MIN_INSTANCES = 20  # with fewer, shares of classes say little
_MAX_IMBALANCE = 3.0  # factor between the shares of a class in two splits


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (`fault`) or may be intended. what: the file or the number it is about."""

    fault: bool
    kind: str
    split: str
    what: str
    detail: str


def check(
    labelled: LabelledSet,
    faults: Sequence[Fault],
    report: Progress,
    *,
    near: int = NEAR,
    tiny: int = TINY,
    jobs: int | None = None,
) -> list[Finding]:
    """All findings, split by split; `faults` are those that the reader reported.

    near: bits of FINGERPRINT_BITS by which perceptual hashes of duplicates differ at most. tiny: masks of fewer
    pixels are reported.
    """
    findings: list[Finding] = []
    infos: dict[tuple[str, str], PhotoInfo] = {}
    for split, photos in labelled.splits.items():
        findings += [Finding(True, f.kind, split, f.what, f.detail) for f in faults if f.split == split]
        with (
            report.stage(f"checking {split}", len(photos), "images") as advance,
            ThreadPoolExecutor(jobs or os.cpu_count()) as pool,
        ):
            for photo, info in zip(
                photos, pool.map(lambda photo, split=split: _probe(split, photo), photos), strict=True
            ):
                if isinstance(info, Finding):
                    findings.append(info)
                else:
                    infos[split, _name(photo)] = info
                    findings += _size(split, photo, info)
                findings += _masks(split, photo, tiny)
                advance(1)
        findings += _unlisted(split, labelled.files[split].path.parent / "images", photos)
    findings += _duplicates(infos, near)
    findings += _classes(labelled)
    return findings


def _name(photo: Photo) -> str:
    """The photo as the json calls it."""
    return str(photo.record["file_name"])


def _probe(split: str, photo: Photo) -> PhotoInfo | Finding:
    name = _name(photo)
    if not photo.path.is_file():
        return Finding(True, "image missing", split, name, f"there is no image file {photo.path}")
    try:
        return probe_file(photo.path, name, fingerprint=True)
    except PhotoTooLargeError as error:
        return Finding(True, "image too large", split, name, str(error))
    except DatasetError as error:
        return Finding(True, "image damaged", split, name, str(error))


def _size(split: str, photo: Photo, info: PhotoInfo) -> Iterator[Finding]:
    listed, actual = (photo.width, photo.height), (info.width, info.height)
    if listed != actual:
        detail = f"the file is {actual[0]}x{actual[1]} upright, the json says {listed[0]}x{listed[1]}"
        if listed == info.stored_size:
            detail += f": its EXIF orientation {info.orientation} turns it, the labels are not turned"
        yield Finding(True, "image of another size", split, _name(photo), detail)


def _masks(split: str, photo: Photo, tiny: int) -> Iterator[Finding]:
    masks: list[tuple[Annotation, Any]] = []
    for annotation in photo.annotations:
        if annotation.segmentation is None:
            continue
        what = f"{_name(photo)}, annotation {annotation.id}"
        if overshoot := _overshoot(annotation.segmentation, photo.width, photo.height):
            yield Finding(True, "mask outside the image", split, what, overshoot)
        mask = annotation.mask(photo.width, photo.height)
        area = int(np.count_nonzero(mask))
        if area == 0:
            yield Finding(True, "empty mask", split, what, "it has no pixel")
            continue
        if area < tiny:
            yield Finding(False, "tiny mask", split, what, f"{area} pixels")
        encoded = coco_mask.encode(np.asfortranarray(mask))
        if difference := _box_difference(annotation.record.get("bbox"), coco_mask.toBbox(encoded)):
            yield Finding(True, "box unlike its mask", split, what, difference)
        if not annotation.crowd:
            masks.append((annotation, encoded))
    yield from _twice(split, photo, masks)


def _overshoot(segmentation: Any, width: int, height: int) -> str:
    """How far a mask leaves its picture, or nothing."""
    if isinstance(segmentation, dict):
        rows, columns = segmentation["size"]
        return f"the mask is {columns}x{rows}, the image {width}x{height}" if (rows, columns) != (height, width) else ""
    points = np.concatenate([np.reshape(np.asarray(ring, float), (-1, 2)) for ring in segmentation])
    beyond = float(max(-points.min(), (points - (width, height)).max()))
    return f"a corner is {beyond:.1f} pixels beyond the edge" if beyond > _OUTSIDE else ""


def _box_difference(box: Any, of_mask: NDArray[np.float64]) -> str:
    """How a box [x, y, w, h] of the json differs from that of its mask, or nothing."""
    if box is None:
        return ""
    try:
        x, y, width, height = finite(box)
    except (TypeError, ValueError):
        return f"{box!r:.60} is not a box"
    said = np.array([x, y, x + width, y + height])
    seen = np.array([*of_mask[:2], *(of_mask[:2] + of_mask[2:])])
    if (np.abs(said - seen) <= _BOX_SLACK).all():
        return ""
    if (iou := float(box_iou(said[None], seen[None])[0, 0])) >= _BOX_OVERLAP:
        return ""
    return f"IoU {iou:.2f}: {[round(v) for v in (x, y, width, height)]} against {of_mask.astype(int).tolist()}"


def _twice(split: str, photo: Photo, masks: Sequence[tuple[Annotation, Any]]) -> Iterator[Finding]:
    if len(masks) < 2:
        return
    encoded = [mask for _, mask in masks]
    overlaps = coco_mask.iou(encoded, encoded, [0] * len(encoded))
    for a, b in zip(*np.nonzero(np.triu(overlaps > _TWICE, 1)), strict=True):
        first, second = masks[a][0], masks[b][0]
        if first.class_id == second.class_id:
            what = f"{_name(photo)}, annotations {first.id} and {second.id}"
            yield Finding(True, "object labelled twice", split, what, f"IoU {overlaps[a, b]:.2f}")


def _unlisted(split: str, folder: Path, photos: Sequence[Photo]) -> Iterator[Finding]:
    listed = {photo.path for photo in photos}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path not in listed:
            yield Finding(
                False, "image not listed", split, path.relative_to(folder).as_posix(), "the json does not name it"
            )


def _duplicates(infos: Mapping[tuple[str, str], PhotoInfo], near: int) -> Iterator[Finding]:
    names = list(infos)
    for a, b, distance in near_pairs([infos[name].fingerprint or 0 for name in names], near):
        (split, name), (other_split, other) = names[a], names[b]
        same = infos[names[a]].sha256 == infos[names[b]].sha256
        detail = "the same file" if same else f"{distance} of {FINGERPRINT_BITS} bits differ"
        if split == other_split:
            yield Finding(False, "duplicates in a split", split, f"{name} and {other}", detail)
        else:
            what = f"{split}/{name} and {other_split}/{other}"
            yield Finding(True, "duplicates across splits", f"{split}+{other_split}", what, detail)


def near_pairs(fingerprints: Sequence[int], near: int) -> Iterator[tuple[int, int, int]]:
    """Index pairs a < b of fingerprints that differ in at most `near` bits, and how many."""
    if len(fingerprints) < 2:
        return
    size = FINGERPRINT_BITS // 8
    words = np.frombuffer(b"".join(f.to_bytes(size, "big") for f in fingerprints), np.uint64).reshape(-1, size // 8)
    for a in range(len(words) - 1):
        distances = np.bitwise_count(words[a + 1 :] ^ words[a]).sum(axis=1)
        for offset in np.flatnonzero(distances <= near):
            yield a, a + 1 + int(offset), int(distances[offset])


def _classes(labelled: LabelledSet) -> Iterator[Finding]:
    tables = {
        split: {category["name"]: category["id"] for category in file.categories}
        for split, file in labelled.files.items()
    }
    counts = {split: _instances(labelled, split) for split in tables}
    first = next(iter(tables))
    for split, table in tables.items():
        if table != tables[first]:
            detail = f"{table} against {tables[first]} in {first}"
            yield Finding(True, "other classes", split, "categories", detail)
    for split in labelled.splits:
        if not counts[split] and (crowds := labelled.count(split, crowd=True)):
            detail = f"all {crowds} labels are marked iscrowd, so nothing would be learnt: CVAT marks brush masks so, "
            yield Finding(True, "only crowd regions", split, "annotations", detail + "convert --crowds-as-instances")
    for name in tables[first]:
        for split, table in tables.items():
            if name in table and not counts[split][name]:
                yield Finding(False, "class without instances", split, name, "no annotation is of this class")
    for one, other in combinations(tables, 2):
        totals = [max(1, counts[split].total()) for split in (one, other)]
        for name in tables[one]:
            here, there = counts[one][name], counts[other][name]
            shares = here / totals[0], there / totals[1]
            if here + there >= _MIN_INSTANCES and min(here, there) and max(shares) > _MAX_IMBALANCE * min(shares):
                detail = f"{shares[0]:.0%} of the instances in {one}, {shares[1]:.0%} in {other}"
                yield Finding(False, "class balance differs", f"{one}+{other}", name, detail)


def _instances(labelled: LabelledSet, split: str) -> Counter[str]:
    return Counter(
        labelled.name_of(annotation)
        for photo in labelled.splits[split]
        for annotation in photo.annotations
        if annotation.class_id and not annotation.crowd
    )
