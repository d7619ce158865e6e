"""Everything that is wrong with a data set, before anyone trains on it."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
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
from pumpseg.masks import rle
from pumpseg_train.dataset.image_probe import FINGERPRINT_BITS, Picture, PictureTooLargeError, examine
from pumpseg_train.dataset.masks import decode
from pumpseg_train.dataset.raw_files import SplitFile
from pumpseg_train.progress import Progress

# Of FINGERPRINT_BITS. Scaled, re-encoded and brightened copies of 60 photos differed by up to 34 (all but brightened
# ones by up to 8), the closest different photos of some 500 by 44.
NEAR = 32
TINY = 16  # pixels

_OUTSIDE = 1.0  # pixels that a polygon may leave its picture by: editors round
_BOX_SLACK = 2.0  # pixels that an edge of a box may be off
_BOX_OVERLAP = 0.9  # IoU of a box and that of its mask, where edges are further off
_TWICE = 0.95  # IoU of two masks of one class that are the same object
_FEW = 20  # instances below which shares of classes say little
_LOPSIDED = 3.0  # factor between the shares of a class in two splits


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (`fault`) or may be meant so. what: the file or the number it is about."""

    fault: bool
    kind: str
    split: str
    what: str
    detail: str


def check(
    splits: Sequence[SplitFile], report: Progress, *, near: int = NEAR, tiny: int = TINY, jobs: int | None = None
) -> list[Finding]:
    """All findings, in the order of the files.

    near: bits of FINGERPRINT_BITS by which perceptual hashes of duplicates differ at most. tiny: masks of fewer
    pixels are told.
    """
    findings: list[Finding] = []
    pictures: dict[tuple[str, str], Picture] = {}
    for split in splits:
        findings += _references(split)
        annotations = defaultdict(list)
        for annotation in split.annotations:
            annotations[annotation["image_id"]].append(annotation)

        def look(image: dict[str, Any], split: SplitFile = split) -> tuple[dict[str, Any], Picture | Finding]:
            return image, _look(split, image)

        with (
            report.stage(f"checking {split.name}", len(split.images), "images") as advance,
            ThreadPoolExecutor(jobs or os.cpu_count()) as pool,
        ):
            for image, seen in pool.map(look, split.images):
                if isinstance(seen, Finding):
                    findings.append(seen)
                else:
                    pictures[split.name, image["file_name"]] = seen
                    findings += _size(split, image, seen)
                findings += _masks(split, image, annotations[image["id"]], tiny)
                advance(1)
        findings += _unlisted(split)
    findings += _duplicates(pictures, near)
    findings += _classes(splits)
    return findings


def _references(split: SplitFile) -> Iterator[Finding]:
    for what, items in (("category", split.categories), ("image", split.images), ("annotation", split.annotations)):
        for number, count in Counter(item["id"] for item in items).items():
            if count > 1:
                yield Finding(True, "id used twice", split.name, f"{what} {number}", f"{count} times")
    for name, count in Counter(category["name"] for category in split.categories).items():
        if count > 1:
            yield Finding(True, "class named twice", split.name, name, f"{count} categories have this name")
    for name, count in Counter(image["file_name"] for image in split.images).items():
        if count > 1:
            yield Finding(True, "image listed twice", split.name, name, f"{count} times")
    images = {image["id"] for image in split.images}
    categories = {category["id"] for category in split.categories}
    for annotation in split.annotations:
        for key, known in (("image_id", images), ("category_id", categories)):
            if annotation[key] not in known:
                what = f"annotation {annotation['id']}"
                yield Finding(
                    True, "unknown reference", split.name, what, f"{key} {annotation[key]} is not in the file"
                )


def _look(split: SplitFile, image: dict[str, Any]) -> Picture | Finding:
    path, name = split.path(image), image["file_name"]
    try:
        content = path.read_bytes()
    except OSError as error:
        return Finding(True, "image missing", split.name, name, error.strerror or str(error))
    try:
        return examine(content, name, fingerprint=True)
    except PictureTooLargeError as error:
        return Finding(True, "image too large", split.name, name, str(error))
    except DatasetError as error:
        return Finding(True, "image damaged", split.name, name, str(error))


def _size(split: SplitFile, image: dict[str, Any], picture: Picture) -> Iterator[Finding]:
    said, seen = (image["width"], image["height"]), (picture.width, picture.height)
    if said != seen:
        detail = f"the file is {seen[0]}x{seen[1]} upright, the json says {said[0]}x{said[1]}"
        if picture.orientation >= 5 and said == seen[::-1]:
            detail += f": its EXIF orientation {picture.orientation} turns it, the labels are not turned"
        yield Finding(True, "image of another size", split.name, image["file_name"], detail)


def _masks(
    split: SplitFile, image: dict[str, Any], annotations: Sequence[dict[str, Any]], tiny: int
) -> Iterator[Finding]:
    width, height = int(image["width"]), int(image["height"])
    masks: list[tuple[dict[str, Any], Any]] = []
    for annotation in annotations:
        what = f"{image['file_name']}, annotation {annotation['id']}"
        segmentation = annotation.get("segmentation")
        if not segmentation:
            yield Finding(True, "no mask", split.name, what, f"its segmentation is {segmentation!r}")
            continue
        try:
            overshoot = _overshoot(segmentation, width, height)
            mask = decode(segmentation, width, height)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            yield Finding(True, "mask damaged", split.name, what, f"{type(error).__name__} {error}")
            continue
        if overshoot:
            yield Finding(True, "mask outside the image", split.name, what, overshoot)
        area = int(np.count_nonzero(mask))
        if area == 0:
            yield Finding(True, "empty mask", split.name, what, "it has no pixel")
            continue
        if area < tiny:
            yield Finding(False, "tiny mask", split.name, what, f"{area} pixels")
        encoded = coco_mask.encode(np.asfortranarray(mask))
        if difference := _box_difference(annotation.get("bbox"), coco_mask.toBbox(encoded)):
            yield Finding(True, "box unlike its mask", split.name, what, difference)
        if not annotation.get("iscrowd"):
            masks.append((annotation, encoded))
    yield from _twice(split, image, masks)


def _overshoot(segmentation: Any, width: int, height: int) -> str:
    """How far a mask leaves its picture, or nothing. Raises ValueError for run lengths that are none."""
    if isinstance(segmentation, dict):
        size = [int(side) for side in segmentation["size"]]
        counts = segmentation["counts"]
        if isinstance(counts, str):
            rle.decode({"size": size, "counts": counts})
        elif sum(counts) != size[0] * size[1] or min(counts) < 0:
            raise ValueError(f"the counts add up to {sum(counts)}, not to {size[0]}x{size[1]}")
        return f"the mask is {size[1]}x{size[0]}, the image {width}x{height}" if size != [height, width] else ""
    points: NDArray[np.float64] = np.concatenate(
        [np.reshape(np.asarray(ring, float), (-1, 2)) for ring in segmentation]
    )
    if any(len(ring) < 6 for ring in segmentation) or not np.isfinite(points).all():
        raise ValueError("a polygon of fewer than 3 corners, or with a corner nowhere")
    beyond = float(max(-points.min(), (points - (width, height)).max()))
    return f"a corner lies {beyond:.1f} pixels beyond the edge" if beyond > _OUTSIDE else ""


def _box_difference(box: Any, of_mask: NDArray[np.float64]) -> str:
    """How a box [x, y, w, h] of the json differs from that of its mask, or nothing."""
    if box is None:
        return ""
    try:
        x, y, width, height = (float(value) for value in box)
    except (TypeError, ValueError):
        return f"{box!r} is no box"
    said = np.array([x, y, x + width, y + height])
    seen = np.array([*of_mask[:2], *(of_mask[:2] + of_mask[2:])])
    if (np.abs(said - seen) <= _BOX_SLACK).all():
        return ""
    iou = float(box_iou(said[None], seen[None])[0, 0])
    return (
        f"IoU {iou:.2f}: {[round(v) for v in box]} against {of_mask.astype(int).tolist()}" if iou < _BOX_OVERLAP else ""
    )


def _twice(split: SplitFile, image: dict[str, Any], masks: Sequence[tuple[dict[str, Any], Any]]) -> Iterator[Finding]:
    if len(masks) < 2:
        return
    encoded = [mask for _, mask in masks]
    overlaps = coco_mask.iou(encoded, encoded, [0] * len(encoded))
    for a, b in zip(*np.nonzero(np.triu(overlaps > _TWICE, 1)), strict=True):
        first, second = masks[a][0], masks[b][0]
        if first["category_id"] == second["category_id"]:
            what = f"{image['file_name']}, annotations {first['id']} and {second['id']}"
            yield Finding(True, "object labelled twice", split.name, what, f"IoU {overlaps[a, b]:.2f}")


def _unlisted(split: SplitFile) -> Iterator[Finding]:
    folder = split.folder / "images"
    listed = {Path(image["file_name"]).as_posix() for image in split.images}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        name = path.relative_to(folder).as_posix()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and name not in listed:
            yield Finding(False, "image not listed", split.name, name, "the json does not name it")


def _duplicates(pictures: dict[tuple[str, str], Picture], near: int) -> Iterator[Finding]:
    names = list(pictures)
    for a, b, distance in near_pairs([pictures[name].fingerprint or 0 for name in names], near):
        (split, name), (other_split, other) = names[a], names[b]
        same = pictures[names[a]].sha256 == pictures[names[b]].sha256
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


def _classes(splits: Sequence[SplitFile]) -> Iterator[Finding]:
    tables = {split.name: {category["name"]: category["id"] for category in split.categories} for split in splits}
    counts = {split.name: _instances(split) for split in splits}
    first = splits[0].name
    for split in splits[1:]:
        if tables[split.name] != tables[first]:
            detail = f"{tables[split.name]} against {tables[first]} in {first}"
            yield Finding(True, "other classes", split.name, "categories", detail)
    for name in tables[first]:
        for split in splits:
            if name in tables[split.name] and not counts[split.name][name]:
                yield Finding(False, "class without instances", split.name, name, "no annotation is of this class")
    for one, other in combinations(splits, 2):
        totals = [max(1, counts[split.name].total()) for split in (one, other)]
        for name in tables[one.name]:
            here, there = counts[one.name][name], counts[other.name][name]
            shares = here / totals[0], there / totals[1]
            if here + there >= _FEW and min(here, there) and max(shares) > _LOPSIDED * min(shares):
                detail = f"{shares[0]:.0%} of the instances in {one.name}, {shares[1]:.0%} in {other.name}"
                yield Finding(False, "class balance differs", f"{one.name}+{other.name}", name, detail)


def _instances(split: SplitFile) -> Counter[str]:
    names = {category["id"]: category["name"] for category in split.categories}
    return Counter(
        names[annotation["category_id"]]
        for annotation in split.annotations
        if annotation["category_id"] in names and not annotation.get("iscrowd")
    )
