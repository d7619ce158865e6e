"""Which anchors and RoIs learn what, by the rules of mrcnn/model.py (build_rpn_targets, detection_targets_graph).

Class numbers are those of mrcnn: 1..K for instances, negative for crowds, 0 for padding.
"""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from pumpseg.boxes import box_iou
from pumpseg_train.model import boxes as bx
from pumpseg_train.model.targets import choose

_CROWD_IOU = 0.001  # boxes that overlap a crowd by more are not background


def anchor_targets(
    anchors: np.ndarray, boxes: np.ndarray, class_ids: np.ndarray, rng: np.random.Generator, *, samples: int
) -> tuple[np.ndarray, np.ndarray]:
    """Labels int8 (A,) of anchors (A, 4), 1 positive, -1 negative, 0 left out, and the instance int32 (A,) of each.

    Positive from an overlap of 0.7 with an instance, or as the (first) best anchor of one; negative below 0.3; at most
    `samples`, half of them positive. A forced positive learns the instance that it overlaps most, as in mrcnn.
    """
    instances, crowds = np.flatnonzero(class_ids > 0), np.flatnonzero(class_ids < 0)
    match, truth = np.zeros(len(anchors), np.int8), np.zeros(len(anchors), np.int32)
    if not len(instances):
        return match, truth
    overlaps = box_iou(anchors, boxes[instances])
    best = overlaps.max(axis=1)
    match[best < 0.3] = -1
    if len(crowds):
        match[box_iou(anchors, boxes[crowds]).max(axis=1) >= _CROWD_IOU] = 0
    match[overlaps.argmax(axis=0)] = 1
    match[best >= 0.7] = 1
    positive = np.flatnonzero(match == 1)
    match[rng.permutation(positive)[samples // 2 :]] = 0
    negative = np.flatnonzero(match == -1)
    match[rng.permutation(negative)[samples - np.count_nonzero(match == 1) :]] = 0
    return match, instances[overlaps.argmax(axis=1)].astype(np.int32)


@dataclass(frozen=True)
class RoiTargets:
    """RoIs, positives first: `boxes` (B, R, 4), `class_ids` (B, R), 0 for background and for rows of zeros that fill
    up, and of the first `positives` rows `truth_boxes` (B, P, 4) and `truth_index` (B, P)."""

    boxes: Any
    class_ids: Any
    truth_boxes: Any
    truth_index: Any


def roi_targets(
    proposals: Any,
    real: Any,
    truth_boxes: Any,
    class_ids: Any,
    seed: keras.random.SeedGenerator,
    *,
    samples: int,
    positive_ratio: float,
) -> RoiTargets:
    """Samples of proposals (B, N, 4): at most `samples * positive_ratio` positive, and background to that ratio.

    Without a proposal that overlaps an instance by 0.5 there is no sample: rows of zeros then learn background.
    """
    missing = max(0, samples - proposals.shape[1])
    proposals = ops.pad(proposals, ((0, 0), (0, missing), (0, 0)))
    real = ops.pad(real, ((0, 0), (0, missing)))
    overlaps = bx.iou(proposals, truth_boxes)
    instances = ops.cast(ops.expand_dims(class_ids > 0, 1), "float32")
    crowds = ops.cast(ops.expand_dims(class_ids < 0, 1), "float32")
    best = ops.max(overlaps * instances, axis=-1)
    positive = ops.logical_and(real, best >= 0.5)
    negative = ops.logical_and(real, best < 0.5)
    negative = ops.logical_and(negative, ops.max(overlaps * crowds, axis=-1) < _CROWD_IOU)

    most = int(samples * positive_ratio)
    index, is_positive = choose(positive, most, seed)
    negative_index, is_negative = choose(negative, samples - most, seed)
    count = ops.sum(ops.cast(is_positive, "float32"), axis=1, keepdims=True)
    wanted = ops.floor(count / positive_ratio) - count
    is_negative = ops.logical_and(is_negative, ops.cast(ops.arange(samples - most), "float32") < wanted)

    truth_index = ops.take_along_axis(ops.argmax(overlaps * instances, axis=-1), index, axis=1)
    labels = ops.take_along_axis(ops.cast(class_ids, "int32"), truth_index, axis=1)
    labels = ops.where(is_positive, labels, 0)
    used = ops.concatenate([is_positive, is_negative], axis=1)
    boxes = ops.take_along_axis(
        proposals, ops.expand_dims(ops.concatenate([index, negative_index], axis=1), -1), axis=1
    )
    return RoiTargets(
        ops.where(ops.expand_dims(used, -1), boxes, 0.0),
        ops.concatenate([labels, ops.zeros_like(negative_index, dtype="int32")], axis=1),
        ops.take_along_axis(truth_boxes, ops.expand_dims(truth_index, -1), axis=1),
        truth_index,
    )


def mask_targets(boxes: Any, truth_boxes: Any, truth_index: Any, mini_masks: Any, size: int) -> Any:
    """Masks (B, R, size, size) of 0 or 1 for RoI boxes (B, R, 4).

    As mrcnn does: tf.image.crop_and_resize of `mini_masks` (B, G, S, T), rounded.
    """
    chosen = ops.take_along_axis(mini_masks, ops.reshape(truth_index, (-1, truth_index.shape[1], 1, 1)), axis=1)
    weights = []
    for axis in (1, 0):  # y, then x
        last = mini_masks.shape[3 - axis] - 1
        origin, length = truth_boxes[..., axis], truth_boxes[..., axis + 2] - truth_boxes[..., axis]
        start, end = (
            ops.expand_dims((boxes[..., side] - origin) / ops.maximum(length, 1e-3) * last, -1)
            for side in (axis, axis + 2)
        )
        at = start + (end - start) * (ops.arange(size, dtype="float32") / (size - 1))
        inside = ops.cast(ops.logical_and(at >= 0, at <= last), "float32")
        distance = ops.abs(ops.expand_dims(at, -1) - ops.arange(last + 1, dtype="float32"))
        weights.append(ops.maximum(1 - distance, 0) * ops.expand_dims(inside, -1))
    rows, columns = weights
    values = ops.einsum("brxt,brys,brst->bryx", columns, rows, ops.cast(chosen, "float32"))
    return ops.cast(values > 0.5, "float32")
