"""Box arithmetic on x1 y1 x2 y2 boxes (..., 4): anchors, overlap, deltas and non-maximum suppression."""

import math
from typing import Any

import numpy as np
from keras import ops

from pumpseg_train.model.profile import Profile

# exp() of a predicted log-size is capped, as in Detectron's box coder, so that early steps stay finite.
MAX_LOG_SCALE = math.log(1000 / 16)


def anchors(profile: Profile, size: tuple[int, int]) -> np.ndarray:
    """Anchor boxes float32 (A, 4) for an input of `size` (h, w), ordered level, y, x, size, ratio.

    Centres are in the middle of the cells (Faster R-CNN, section 3.1.1, with the half-cell offset) or in their
    corners, by `profile.compat`. The exported graph adds the same float32 numbers.
    """
    centres, levels = anchor_cells(profile, size)
    return (np.tile(centres, 2)[:, None] + anchor_shapes(profile)[levels]).reshape(-1, 4)


def anchor_cells(profile: Profile, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Centres float32 (C, 2), as x and y, and level int32 (C,) of the cells of an input of `size` (h, w)."""
    centres = []
    for stride in profile.strides:
        y, x = np.meshgrid(
            *((np.arange(side // stride) + profile.compat.anchor_offset) * stride for side in size), indexing="ij"
        )
        centres.append(np.stack([x, y], -1).reshape(-1, 2))
    levels = np.repeat(np.arange(len(centres), dtype=np.int32), [len(cells) for cells in centres])
    return np.concatenate(centres).astype(np.float32), levels


def anchor_shapes(profile: Profile) -> np.ndarray:
    """Corners float32 (L, K, 4) of the K anchors of a cell of each level, from the centre of the cell."""
    levels = []
    for sides in profile.anchor_sizes:
        half = np.array([(s / r**0.5, s * r**0.5) for s in sides for r in profile.anchor_ratios]) / 2  # w, h
        levels.append(np.concatenate([-half, half - profile.compat.last_pixel], axis=-1))
    return np.stack(levels).astype(np.float32)


def area(boxes: Any) -> Any:
    """(..., 4) -> (...)."""
    return ops.maximum(boxes[..., 2] - boxes[..., 0], 0) * ops.maximum(boxes[..., 3] - boxes[..., 1], 0)


def intersection(a: Any, b: Any) -> Any:
    """Pairwise intersection areas: (..., N, 4), (..., M, 4) -> (..., N, M)."""
    a, b = ops.expand_dims(a, -2), ops.expand_dims(b, -3)
    width, height = (
        ops.maximum(ops.minimum(a[..., axis + 2], b[..., axis + 2]) - ops.maximum(a[..., axis], b[..., axis]), 0)
        for axis in (0, 1)
    )
    return width * height


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
    reference_size = references[..., 2:] - references[..., :2]
    centre = _centre(references) + deltas[..., :2] * reference_size
    half = reference_size * ops.exp(ops.minimum(deltas[..., 2:], MAX_LOG_SCALE)) / 2
    return ops.concatenate([centre - half, centre + half], axis=-1)


def whole_image(profile: Profile, size: tuple[int, int]) -> np.ndarray:
    """The box float32 (4,) of an image of `size` (h, w)."""
    return np.array([0, 0, size[1] - profile.compat.last_pixel, size[0] - profile.compat.last_pixel], np.float32)


def clip(boxes: Any, window: Any) -> Any:
    """Cuts boxes (..., 4) to the box `window` (4,) or (..., 4)."""
    low, high = (ops.concatenate([window[..., side : side + 2]] * 2, axis=-1) for side in (0, 2))
    return ops.maximum(ops.minimum(boxes, high), low)


def content_window(images: Any, profile: Profile) -> Any:
    """The boxes (B, 1, 4) of the frames inside centred letterboxed images (B, H, W, 3) on black.

    Black bars on two opposite sides, equal to within one line, count as the rest; so do black bars of the frame
    itself, but a black sky does not.
    """
    bright = ops.max(ops.cast(images, "float32"), axis=-1)
    sides = {}
    for axis, size in ((2, images.shape[2]), (1, images.shape[1])):  # x, then y
        used = ops.cast(ops.max(bright, axis=3 - axis) > 0, "int32")
        before = ops.argmax(used, axis=-1)
        after = ops.argmax(ops.flip(used, axis=-1), axis=-1)
        start = ops.minimum(before, after)
        sides[axis] = start, size - ops.minimum(after, start + 1)
    (left, right), (top, bottom) = ([ops.cast(side, "float32") for side in sides[axis]] for axis in (2, 1))
    window = ops.stack([left, top, right - profile.compat.last_pixel, bottom - profile.compat.last_pixel], axis=-1)
    return ops.expand_dims(window, 1)


def non_maximum_suppression(boxes: Any, valid: Any, threshold: float, *, rounds: int = 12, groups: Any = None) -> Any:
    """Greedy NMS of boxes (B, N, 4) sorted by falling score, as a keep mask (B, N).

    Cluster-NMS (Zheng et al. 2020, arXiv 2005.03572, section 3.3): repeating "suppressed by a kept,
    better box" reaches the greedy result after as many rounds as the longest chain of suppressions,
    and needs only matrix products, which every backend has. Rows where `valid` is false are dropped, and
    boxes of different `groups` (B, N) leave each other alone.
    """
    count = boxes.shape[1]
    better = ops.triu(ops.ones((count, count)), 1)  # [i, j]: i has the higher score
    overlaps = ops.cast(iou(boxes, boxes) > threshold, "float32") * better
    if groups is not None:
        overlaps = overlaps * ops.cast(ops.expand_dims(groups, -1) == ops.expand_dims(groups, -2), "float32")
    valid = ops.cast(valid, "float32")
    keep = valid
    for _ in range(rounds):
        suppressors = ops.squeeze(ops.matmul(ops.expand_dims(keep, 1), overlaps), 1)
        keep = valid * ops.cast(suppressors < 0.5, "float32")
    return keep > 0.5


def _size(boxes: Any) -> Any:
    return ops.maximum(boxes[..., 2:] - boxes[..., :2], 1e-3)


def _centre(boxes: Any) -> Any:
    return (boxes[..., :2] + boxes[..., 2:]) / 2
