"""Whether a row gives the instances of the reference: a fast but wrong provider must not look good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from pumpseg.boxes import box_iou
from pumpseg.masks.rle import decode

MATCHED_IOU = 0.5
MIN_MATCHED = 0.98
MIN_MASK_IOU = 0.95


@dataclass(frozen=True)
class Agreement:
    """How the instances of a row compare with those of the reference, over all distinct frames.

    Partners are two instances of the same class with a box IoU of at least 0.5.
    """

    instances: Annotated[int, "of the reference, in all distinct frames"]
    matched: Annotated[float, "share of the instances of both with a partner"]
    box_iou: Annotated[float | None, "mean over the partners"]
    mask_iou: Annotated[float | None, "mean over the partners"]
    lowest_mask_iou: float | None
    score_difference: Annotated[float | None, "the largest"]
    agrees: Annotated[bool, "at least 98% matched, mean mask IoU at least 0.95"]


def compare(found: Sequence[dict[str, Any]], reference: Sequence[dict[str, Any]]) -> Agreement:
    """Compare the instances of frames with those of the same frames; their form is that of
    `worker.SegmenterWorker.instances`.

    Raises ValueError for a different number of frames.
    """
    if len(found) != len(reference):
        raise ValueError(f"{len(found)} frames cannot be compared with {len(reference)}")
    total = sum(len(frame["boxes"]) for frame in (*found, *reference))
    box_ious, mask_ious, differences = [], [], []
    for mine, theirs in zip(found, reference, strict=True):
        for i, j, iou in _partners(mine, theirs):
            box_ious.append(iou)
            mask_ious.append(_mask_iou(decode(mine["masks"][i]), decode(theirs["masks"][j])))
            differences.append(abs(mine["scores"][i] - theirs["scores"][j]))
    matched = 2 * len(box_ious) / total if total else 1.0
    mask_iou = float(np.mean(mask_ious)) if mask_ious else None
    return Agreement(
        instances=sum(len(frame["boxes"]) for frame in reference),
        matched=matched,
        box_iou=float(np.mean(box_ious)) if box_ious else None,
        mask_iou=mask_iou,
        lowest_mask_iou=min(mask_ious, default=None),
        score_difference=max(differences, default=None),
        agrees=matched >= MIN_MATCHED and (mask_iou is None or mask_iou >= MIN_MASK_IOU),
    )


def _partners(mine: dict[str, Any], theirs: dict[str, Any]) -> list[tuple[int, int, float]]:
    """Pairs of indices and their box IoU, each instance used once, the best overlaps first."""
    ious = box_iou(*(np.array(frame["boxes"], np.float64).reshape(-1, 4) for frame in (mine, theirs)))
    ious[np.array(mine["class_ids"])[:, None] != np.array(theirs["class_ids"])[None]] = 0
    pairs = []
    while ious.size and ious.max() >= MATCHED_IOU:
        i, j = np.unravel_index(ious.argmax(), ious.shape)
        pairs.append((int(i), int(j), float(ious[i, j])))
        ious[i, :] = ious[:, j] = 0
    return pairs


def _mask_iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    union = np.count_nonzero(first | second)
    return float(np.count_nonzero(first & second) / union) if union else 1.0
