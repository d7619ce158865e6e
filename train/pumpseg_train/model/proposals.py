"""From the RPN's outputs to region proposals."""

from dataclasses import dataclass
from typing import Any

from keras import ops

from pumpseg_train.model import boxes as bx
from pumpseg_train.model.profile import Profile


@dataclass(frozen=True)
class Proposals:
    """Boxes (B, N, 4) by falling objectness `scores` (B, N) in 0..1, and which of them are `real` (B, N)."""

    boxes: Any
    scores: Any
    real: Any


def propose(
    outputs: dict[str, Any],
    profile: Profile,
    size: tuple[int, int],
    *,
    candidates: int,
    count: int,
    score_threshold: float = 0.0,
) -> Proposals:
    """The best `count` boxes of the RPN.

    Faster R-CNN, section 3.3: the `candidates` highest anchors of all levels, decoded and clipped to
    the input `size` (h, w), then NMS. Rows beyond the real ones pad the result: they score below
    `score_threshold` or were suppressed.
    """
    anchors = ops.convert_to_tensor(bx.anchors(profile, size))
    candidates = min(candidates, anchors.shape[0])
    if profile.compat.rank_by_probability:
        scores, index = ops.top_k(probability(outputs["objectness"]), candidates)
    else:
        logits, index = ops.top_k(outputs["objectness"], candidates)
        scores = ops.sigmoid(logits)
    deltas = ops.take_along_axis(outputs["anchor_deltas"], ops.expand_dims(index, -1), axis=1)
    deltas = deltas * ops.convert_to_tensor(profile.anchor_deltas_std)
    boxes = bx.decode(deltas, ops.take(anchors, index, axis=0))
    boxes = bx.clip(boxes, ops.convert_to_tensor(bx.whole_image(profile, size)))
    keep = bx.non_maximum_suppression(
        boxes, scores >= score_threshold, profile.proposal_nms_threshold, rounds=profile.nms_rounds
    )
    boxes, real = take_kept(boxes, keep, count)
    return Proposals(boxes, take_kept(scores, keep, count)[0], real)


def probability(logits: Any) -> Any:
    """Of the first of two classes whose logits differ by `logits`, equal to their softmax to the last bit.

    Trained networks are so confident of many anchors that float32 has few values left below 1: whether two of these are
    equal decides their order, and a sigmoid that is off by the last bit would change it.
    """
    return 1 / (1 + ops.exp(-logits))


def take_kept(boxes: Any, keep: Any, count: int) -> tuple[Any, Any]:
    """Moves kept rows (B, N, ...) to the front in their order; returns the first `count` and which are real."""
    kept, index = ops.top_k(first_rows_first(keep), min(count, keep.shape[1]))
    extra = [1] * (len(boxes.shape) - 2)
    return ops.take_along_axis(boxes, ops.reshape(index, (-1, index.shape[1], *extra)), axis=1), kept > 0


def first_rows_first(keep: Any) -> Any:
    """Sort key (B, N): positive and falling along the kept rows, zero elsewhere."""
    count = keep.shape[1]
    return ops.cast(keep, "float32") * ops.cast(ops.arange(count, 0, -1), "float32")
