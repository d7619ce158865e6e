"""Which anchors and proposals learn what: target assignment and sampling (Faster R-CNN 3.1.2, Mask R-CNN 3.1).

Ground truth is padded: class_ids (B, G) are 1..K for instances, CROWD for crowd regions, OTHER for objects of no class,
0 for padding. Crowd regions are ignored: neither learnt nor counted as errors. Other objects are background to
the RPN and the class head, but the class-agnostic box and mask heads learn from them.
"""

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from pumpseg_train.dataset.class_ids import CROWD, OTHER
from pumpseg_train.model import boxes as bx

IGNORED = -1  # the label of an RoI that no loss counts

_CROWD_OVERLAP = 0.5  # a box with this share of its area in a crowd region is ignored


@dataclass(frozen=True)
class Matches:
    """Best ground truth of N boxes: `index` (B, N), its `overlap` (B, N), and `ignored` (B, N)."""

    index: Any
    overlap: Any
    ignored: Any


def match(boxes: Any, truth_boxes: Any, class_ids: Any, wanted: Any) -> tuple[Matches, Any]:
    """Matches boxes (N, 4) or (B, N, 4) to the `wanted` (B, G) truth; also returns all overlaps (B, N, G), else 0."""
    # One pass over (B, N, G) less costs a training step some percent: the intersection serves both.
    shared = bx.intersection(boxes, truth_boxes)
    union = ops.expand_dims(bx.area(boxes), -1) + ops.expand_dims(bx.area(truth_boxes), -2) - shared
    overlaps = shared * (_as_float(ops.expand_dims(wanted, 1)) / ops.maximum(union, 1e-6))
    crowd = ops.max(shared * _as_float(ops.expand_dims(class_ids == CROWD, 1)), axis=-1)
    ignored = crowd > _CROWD_OVERLAP * ops.maximum(bx.area(boxes), 1e-3)
    return Matches(ops.argmax(overlaps, axis=-1), ops.max(overlaps, axis=-1), ignored), overlaps


def anchor_targets(
    anchors: Any, truth_boxes: Any, class_ids: Any, seed: keras.random.SeedGenerator, *, samples: int = 256
) -> tuple[Any, Any, Any]:
    """Labels of the anchors: positive (B, A), negative (B, A) and the matched boxes (B, A, 4).

    Positive from overlap 0.6, or as the best anchor of an instance; negative below 0.3; a random
    `samples` of them, at most half positive, take part in the loss.
    """
    matches, overlaps = match(anchors, truth_boxes, class_ids, class_ids > 0)
    best = ops.max(overlaps, axis=1, keepdims=True)  # (B, 1, G)
    is_best = ops.any(ops.logical_and(overlaps >= best - 1e-5, best > 0.1), axis=-1)
    positive = ops.logical_or(matches.overlap >= 0.6, is_best)
    negative = ops.logical_and(matches.overlap < 0.3, ops.logical_not(ops.logical_or(positive, matches.ignored)))
    positive = _random_subset(positive, samples // 2, seed)
    room = samples - ops.sum(_as_float(positive), axis=-1, keepdims=True)
    negative = _random_subset(negative, samples, seed, room)
    matched = ops.take_along_axis(truth_boxes, ops.expand_dims(matches.index, -1), axis=1)
    return positive, negative, matched


@dataclass(frozen=True)
class RoiTargets:
    """Sampled RoIs, positives first: `boxes` (B, R, 4), `class_ids` (B, R) with 0 = background, IGNORED and
    OTHER, `truth_boxes` (B, R, 4) and `truth_index` (B, R) of the matched instance."""

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
    positives: int,
) -> RoiTargets:
    """Samples `samples` RoIs from proposals (B, N, 4), the truth and jittered truth, at most `positives` positive.

    Positive from overlap 0.5. Jittered copies of the truth give the box head enough loose boxes to
    correct while the RPN is still weak, and small objects a chance that no anchor gives them.
    """
    is_instance = has_outline(class_ids)
    jittered = [_jitter(truth_boxes, seed) for _ in range(2)]
    candidates = ops.concatenate([proposals, truth_boxes, *jittered], axis=1)
    real = ops.concatenate([real, is_instance, is_instance, is_instance], axis=1)
    matches, _ = match(candidates, truth_boxes, class_ids, is_instance)
    positive = ops.logical_and(real, matches.overlap >= 0.5)
    negative = ops.logical_and(real, ops.logical_not(ops.logical_or(positive, matches.ignored)))

    index, is_positive = choose(positive, positives, seed)
    # Half of them are the proposals that look most like objects: those that would raise false alarms.
    rank = 1 - ops.arange(negative.shape[1], dtype="float32") / negative.shape[1]
    hard = (samples - positives) // 2
    hard_index, is_hard = choose(negative, hard, seed, by=rank)
    taken = ops.any(ops.one_hot(hard_index, negative.shape[1]) * _as_float(is_hard)[..., None] > 0, axis=1)
    negative = ops.logical_and(negative, ops.logical_not(taken))
    negative_index, is_negative = choose(negative, samples - positives - hard, seed)
    negative_index = ops.concatenate([hard_index, negative_index], axis=1)
    is_negative = ops.concatenate([is_hard, is_negative], axis=1)
    index = ops.concatenate([index, negative_index], axis=1)
    used = ops.concatenate([is_positive, is_negative], axis=1)

    truth_index = ops.take_along_axis(matches.index, index, axis=1)
    labels = ops.take_along_axis(ops.cast(class_ids, "int32"), truth_index, axis=1)
    is_positive = ops.concatenate([is_positive, ops.zeros_like(is_negative)], axis=1)
    labels = ops.where(is_positive, labels, ops.where(used, 0, IGNORED))
    return RoiTargets(
        ops.take_along_axis(candidates, ops.expand_dims(index, -1), axis=1),
        labels,
        ops.take_along_axis(truth_boxes, ops.expand_dims(truth_index, -1), axis=1),
        truth_index,
    )


def mask_targets(boxes: Any, truth_boxes: Any, truth_index: Any, mini_masks: Any, size: int) -> Any:
    """Masks (B, R, size, size) of 0 or 1 that RoI boxes (B, R, 4) should show.

    `mini_masks` (B, G, S, S) hold each instance's mask stretched over its own box, as in Matterport's
    `utils.minimize_mask`. Bilinear at the cell centres, cut at 0.5, zero outside the instance's box.
    """
    side = mini_masks.shape[-1]
    chosen = ops.take_along_axis(mini_masks, ops.reshape(truth_index, (-1, truth_index.shape[1], 1, 1)), axis=1)
    weights = []
    for axis in (1, 0):  # y, then x
        truth_start, truth_end = truth_boxes[..., axis], truth_boxes[..., axis + 2]
        start, end = boxes[..., axis], boxes[..., axis + 2]
        centres = (ops.arange(size, dtype="float32") + 0.5) / size
        at = ops.expand_dims(start, -1) + ops.expand_dims(end - start, -1) * centres
        at = (at - ops.expand_dims(truth_start, -1)) / ops.expand_dims(ops.maximum(truth_end - truth_start, 1e-3), -1)
        distance = ops.abs(ops.expand_dims(at * side - 0.5, -1) - ops.arange(side, dtype="float32"))
        weights.append(ops.maximum(1 - distance, 0))  # (B, R, size, side)
    rows, columns = weights
    values = ops.einsum("brxs,bryt,brts->bryx", columns, rows, ops.cast(chosen, "float32"))
    return ops.cast(values >= 0.5, "float32")


def has_outline(class_ids: Any) -> Any:
    """Whose boxes and masks are learnt: instances of a class and other objects."""
    return ops.logical_or(class_ids > 0, class_ids == OTHER)


def _as_float(x: Any) -> Any:
    return ops.cast(x, "float32")


def _random_subset(eligible: Any, most: int, seed: keras.random.SeedGenerator, room: Any = None) -> Any:
    """Keeps at most `most` (and `room` (B, 1)) random true entries of (B, N)."""
    keys = keras.random.uniform(ops.shape(eligible), 0.01, 1.0, seed=seed) * _as_float(eligible)
    best, _ = ops.top_k(keys, min(most, eligible.shape[1]))
    if room is None:
        cut = best[:, -1:]
    else:
        last = ops.clip(ops.cast(room, "int32") - 1, 0, best.shape[1] - 1)
        cut = ops.take_along_axis(best, last, axis=1)
    return ops.logical_and(eligible, keys >= cut)


def choose(eligible: Any, count: int, seed: keras.random.SeedGenerator, by: Any = None) -> tuple[Any, Any]:
    """Indices (B, count) of true entries of (B, N), true ones first, and which are true: random ones, or those with the
    highest `by` (N,), which is above 0."""
    if by is None:
        by = keras.random.uniform(ops.shape(eligible), 0.01, 1.0, seed=seed)
    keys = by * _as_float(eligible)
    best, index = ops.top_k(keys, min(count, eligible.shape[1]))
    return index, best > 0


def _jitter(boxes: Any, seed: keras.random.SeedGenerator) -> Any:
    """Moves each side by up to a sixth of the box (overlap mostly 0.5 to 0.9 with the original)."""
    size = ops.concatenate([boxes[..., 2:] - boxes[..., :2]] * 2, axis=-1)
    return boxes + size * keras.random.uniform(ops.shape(boxes), -1 / 6, 1 / 6, seed=seed)
