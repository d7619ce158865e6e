"""Box arithmetic on x1 y1 x2 y2 boxes (..., 4): anchors, overlap, deltas and non-maximum suppression."""

import functools
import math
from typing import Any

import numpy as np
from keras import ops

from pumpseg_train.model.profile import Profile

# exp() of a predicted log-size is capped, as in Detectron's box coder, so that early steps stay finite.
MAX_LOG_SCALE = math.log(1000 / 16)


@functools.lru_cache
def anchors(profile: Profile, size: tuple[int, int]) -> np.ndarray:
    """Anchor boxes float32 (A, 4) for an input of `size` (h, w), ordered level, y, x, size, ratio.

    Centres lie in the middle of the cells (Faster R-CNN, section 3.1.1, with the half-cell offset).
    """
    levels = []
    for stride, sides in zip(profile.strides, profile.anchor_sizes, strict=True):
        shapes = np.array([(s / r**0.5, s * r**0.5) for s in sides for r in profile.anchor_ratios])  # w, h
        y, x = np.meshgrid(*((np.arange(n // stride) + 0.5) * stride for n in size), indexing="ij")
        centres = np.stack([x, y], -1)[:, :, None]
        levels.append(np.concatenate([centres - shapes / 2, centres + shapes / 2], -1).reshape(-1, 4))
    return np.concatenate(levels).astype(np.float32)


def area(boxes: Any) -> Any:
    """(..., 4) -> (...)."""
    return ops.maximum(boxes[..., 2] - boxes[..., 0], 0) * ops.maximum(boxes[..., 3] - boxes[..., 1], 0)


def intersection(a: Any, b: Any) -> Any:
    """Pairwise intersection areas: (..., N, 4), (..., M, 4) -> (..., N, M)."""
    a, b = ops.expand_dims(a, -2), ops.expand_dims(b, -3)
    sides = ops.minimum(a[..., 2:], b[..., 2:]) - ops.maximum(a[..., :2], b[..., :2])
    return ops.prod(ops.maximum(sides, 0), axis=-1)


def iou(a: Any, b: Any) -> Any:
    """Pairwise intersection over union: (..., N, 4), (..., M, 4) -> (..., N, M)."""
    shared = intersection(a, b)
    union = ops.expand_dims(area(a), -1) + ops.expand_dims(area(b), -2) - shared
    return shared / ops.maximum(union, 1e-6)


def generalized_iou(a: Any, b: Any) -> Any:
    """Row-wise GIoU (Rezatofighi et al. 2019, algorithm 1): (..., 4), (..., 4) -> (...)."""
    sides = ops.minimum(a[..., 2:], b[..., 2:]) - ops.maximum(a[..., :2], b[..., :2])
    shared = ops.prod(ops.maximum(sides, 0), axis=-1)
    union = ops.maximum(area(a) + area(b) - shared, 1e-6)
    hull = ops.prod(ops.maximum(a[..., 2:], b[..., 2:]) - ops.minimum(a[..., :2], b[..., :2]), axis=-1)
    hull = ops.maximum(hull, 1e-6)
    return shared / union - (hull - union) / hull


def encode(boxes: Any, references: Any) -> Any:
    """Deltas (..., 4) dx dy dw dh that turn `references` into `boxes` (Faster R-CNN, equation 2)."""
    size, reference_size = _size(boxes), _size(references)
    shift = (_centre(boxes) - _centre(references)) / reference_size
    return ops.concatenate([shift, ops.log(size / reference_size)], axis=-1)


def decode(deltas: Any, references: Any) -> Any:
    """Boxes (..., 4) from deltas; the inverse of `encode`."""
    reference_size = _size(references)
    centre = _centre(references) + deltas[..., :2] * reference_size
    half = reference_size * ops.exp(ops.minimum(deltas[..., 2:], MAX_LOG_SCALE)) / 2
    return ops.concatenate([centre - half, centre + half], axis=-1)


def clip(boxes: Any, size: tuple[int, int]) -> Any:
    """Cuts boxes to an image of `size` (h, w)."""
    limit = np.array([size[1], size[0]] * 2, np.float32)
    return ops.minimum(ops.maximum(boxes, 0), limit)


def non_maximum_suppression(boxes: Any, valid: Any, threshold: float, iterations: int = 12) -> Any:
    """Greedy NMS of boxes (B, N, 4) sorted by falling score, as a keep mask (B, N).

    Cluster-NMS (Zheng et al. 2020, arXiv 2005.03572, section 3.3): repeating "suppressed by a kept,
    better box" reaches the greedy result after as many rounds as the longest chain of suppressions,
    and needs only matrix products, which every backend has. Rows where `valid` is false are dropped.
    """
    count = boxes.shape[1]
    better = ops.triu(ops.ones((count, count)), 1)  # [i, j]: i has the higher score
    overlaps = ops.cast(iou(boxes, boxes) > threshold, "float32") * better
    valid = ops.cast(valid, "float32")
    keep = valid
    for _ in range(iterations):
        suppressed = ops.max(ops.expand_dims(keep, -1) * overlaps, axis=1)
        keep = valid * (1 - suppressed)
    return keep > 0.5


def _size(boxes: Any) -> Any:
    return ops.maximum(boxes[..., 2:] - boxes[..., :2], 1e-3)


def _centre(boxes: Any) -> Any:
    return (boxes[..., :2] + boxes[..., 2:]) / 2
