"""Boxes and masks of the tables joined: first the regions of every image, later the annotations themselves."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pumpseg.boxes import box_iou
from pumpseg.errors import DatasetError
from pumpseg.image_header import image_size
from pumpseg.images import MAX_PIXELS
from pumpseg_train.dataset.masks import mask_record, upright
from pumpseg_train.dataset.photo_file import PhotoInfo
from pumpseg_train.openimages.tables import BoxRow, MaskRow

_SAME_BOX = 0.5  # IoU; a mask repeats the coordinates of its box, at times with fewer digits
_SET = 122  # grey values above it belong to the mask, as in FiftyOne's importer


@dataclass(frozen=True)
class Rules:
    """What happens to boxes that are not one object with a good mask.

    groups, depictions: "crowd" (a region to be ignored in training), "drop" or "keep", for boxes around many
        objects (IsGroupOf) and for drawings and the like (IsDepiction). unmasked: "crowd" or "drop", for boxes without
        a mask. min_iou: masks whose PredictedIoU is known and lower count as missing.
    """

    groups: str = "crowd"
    depictions: str = "keep"
    unmasked: str = "crowd"
    min_iou: float = 0.0


@dataclass(frozen=True, slots=True)
class Region:
    """A future annotation: a mask, or without one the box, xyxy as shares of the picture's sides."""

    label: str
    crowd: bool
    box: tuple[float, float, float, float]
    mask: MaskRow | None


@dataclass(frozen=True)
class Plan:
    """The regions of every image with at least one instance, and counts of what else the tables had."""

    images: dict[str, list[Region]]
    counts: Counter[str]


def make_plan(boxes: Iterable[BoxRow], masks: Iterable[MaskRow], rules: Rules) -> Plan:
    """Joins on image, class and box. Images in which no instance with a mask is left are not in the plan."""
    boxes_of, masks_of = defaultdict(list), defaultdict(list)
    for box in boxes:
        boxes_of[box.image_id, box.label].append(box)
    for mask in masks:
        masks_of[mask.image_id, mask.label].append(mask)
    counts: Counter[str] = Counter()
    images: dict[str, list[Region]] = defaultdict(list)
    for key in sorted(boxes_of.keys() | masks_of.keys()):
        image_id, label = key
        pairs, lone_boxes, lone_masks = _match(boxes_of[key], masks_of[key])
        counts["masks without a box"] += len(lone_masks)
        candidates: list[tuple[BoxRow | None, MaskRow | None]] = [*pairs]
        candidates += [(lone, None) for lone in lone_boxes]
        candidates += [(None, lone) for lone in lone_masks]
        for pair in candidates:
            region = _region(label, *pair, rules, counts)
            if region is not None:
                images[image_id].append(region)
    whole = {
        image_id: regions for image_id, regions in sorted(images.items()) if any(not region.crowd for region in regions)
    }
    met = {image_id for image_id, _ in boxes_of.keys() | masks_of.keys()}
    counts["images without a usable mask"] = len(met - whole.keys())
    return Plan(whole, counts)


def _region(label: str, box: BoxRow | None, mask: MaskRow | None, rules: Rules, counts: Counter[str]) -> Region | None:
    if mask is not None and mask.predicted_iou is not None and mask.predicted_iou < rules.min_iou:
        counts["masks below the requested PredictedIoU"] += 1
        mask = None
    treatment = "keep"
    if box is not None and box.group:
        counts["group boxes"] += 1
        treatment = rules.groups
    if box is not None and box.depiction:
        counts["depictions"] += 1
        if treatment != "drop" and rules.depictions != "keep":
            treatment = rules.depictions
    if mask is None and treatment == "keep":
        counts["boxes without a mask"] += 1
        treatment = rules.unmasked
    if treatment == "drop":
        return None
    where = box.box if box is not None else mask.box if mask is not None else None
    return None if where is None else Region(label, treatment == "crowd", where, mask)


def _match(
    boxes: Sequence[BoxRow], masks: Sequence[MaskRow]
) -> tuple[list[tuple[BoxRow, MaskRow]], list[BoxRow], list[MaskRow]]:
    """Pairs, those that overlap most first, each box and mask in one at most; then the unpaired boxes and masks."""
    overlaps = [(_iou(box.box, mask.box), b, m) for b, box in enumerate(boxes) for m, mask in enumerate(masks)]
    free_boxes, free_masks = dict(enumerate(boxes)), dict(enumerate(masks))
    pairs = []
    for overlap, b, m in sorted(overlaps, key=lambda entry: -entry[0]):
        if overlap < _SAME_BOX:
            break
        if b in free_boxes and m in free_masks:
            pairs.append((free_boxes.pop(b), free_masks.pop(m)))
    return pairs, list(free_boxes.values()), list(free_masks.values())


def _iou(a: Sequence[float], b: Sequence[float]) -> float:
    # A box without area is still the same as its equal.
    return float(box_iou(np.array([a], float), np.array([b], float))[0, 0]) or float(tuple(a) == tuple(b))


def annotate(
    regions: Sequence[Region], info: PhotoInfo, masks: Path, rules: Rules, counts: Counter[str]
) -> list[dict[str, Any]]:
    """The COCO fields of the regions of one image but for ids; "label" is the MID.

    Tables and masks are for the pixels as stored; the annotations are for the upright picture.
    Raises DatasetError for a mask that is damaged or has another shape than the image.
    """
    annotations = []
    for region in regions:
        crowd = region.crowd
        mask = None if region.mask is None else read_mask(masks / region.mask.file_name, info)
        if mask is not None and not mask.any():
            counts["empty masks"] += 1
            if not crowd and rules.unmasked == "drop":
                continue
            mask, crowd = None, True
        extra: dict[str, Any] = {}
        if mask is not None and region.mask is not None:
            extra = {"box_id": region.mask.box_id, "predicted_iou": region.mask.predicted_iou}
            x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
            if _iou(_pixels(region.box, mask), (x, y, x + width, y + height)) < _SAME_BOX:
                counts["masks that do not fill their box"] += 1
        else:
            mask = _box_mask(region.box, info)
        record = mask_record(upright(mask, info.orientation))
        annotations.append({"label": region.label, "iscrowd": int(crowd), **record, **extra})
    return annotations


def read_mask(path: Path, info: PhotoInfo) -> NDArray[np.bool_]:
    """A mask PNG of any size as bool (h, w) of the picture's stored pixels, not turned upright.

    Raises DatasetError if it is damaged or its sides are not those of the picture at some scale.
    """
    data = path.read_bytes()
    size = image_size(data)
    grey = None
    if size is not None and size[0] * size[1] <= MAX_PIXELS:
        grey = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
    if grey is None:
        path.unlink(missing_ok=True)
        raise DatasetError(f"the mask {path.name} is damaged")
    width, height = info.stored_size
    mask_h, mask_w = grey.shape
    if abs(mask_h - mask_w * height / width) > max(2.0, 0.01 * mask_h):
        raise DatasetError(
            f"the mask {path.name} is {mask_w}x{mask_h}, which is not a scaled copy of the image's {width}x{height}"
        )
    mask = (grey > _SET).view(np.uint8)
    if mask.shape != (height, width):
        mask = np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
    return mask.view(np.bool_)


def _box_mask(box: Sequence[float], info: PhotoInfo) -> NDArray[np.bool_]:
    width, height = info.stored_size
    mask = np.zeros((height, width), np.bool_)
    x1, y1, x2, y2 = (round(value) for value in _pixels(box, mask))
    x1, y1 = min(max(x1, 0), width - 1), min(max(y1, 0), height - 1)
    mask[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)] = True
    return mask


def _pixels(box: Sequence[float], mask: NDArray[Any]) -> tuple[float, float, float, float]:
    height, width = mask.shape
    return box[0] * width, box[1] * height, box[2] * width, box[3] * height
