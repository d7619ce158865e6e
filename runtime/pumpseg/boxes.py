"""Arithmetic of boxes in NumPy, xyxy throughout."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def box_iou(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    """Intersection over union of boxes (N, 4) and (M, 4), as (N, M); 0 where neither box has an area."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)
    areas = [np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=-1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None] - shared
    iou: NDArray[Any] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return iou
