"""Boxes tightened to their masks: the mask head sees the object in a loose box, exact to a fraction of a cell."""

from typing import Any

import numpy as np
from keras import ops

from pumpseg_train.model.roi_align import roi_align

THRESHOLD = 0.5
MIN_SIZE = 1e-3  # pixels: the divisor for boxes that clipping left empty


def grow(boxes: Any, margin: float) -> Any:
    """Boxes (..., 4) extended by `margin` of their width and height on each side."""
    more = margin * (boxes[..., 2:] - boxes[..., :2])
    return ops.concatenate([boxes[..., :2] - more, boxes[..., 2:] + more], axis=-1)


def tighten_to_masks(masks: Any, seen: Any, boxes: Any) -> tuple[Any, Any]:
    """Boxes (N, 4) tightened to masks (N, M, M) of probabilities in the boxes `seen` (N, 4), and the masks in them.

    Each side is where the largest probability of a row or column crosses 0.5, between two cells. A mask without a
    probability above 0.5 keeps its box of `boxes` (N, 4). The new masks are bilinear samples of the old ones.
    """
    side = masks.shape[-1]
    left, right = _ends(ops.max(masks, axis=1))
    top, bottom = _ends(ops.max(masks, axis=2))
    origin = ops.concatenate([seen[:, :2]] * 2, axis=-1)
    size = ops.concatenate([seen[:, 2:] - seen[:, :2]] * 2, axis=-1)
    tight = origin + ops.stack([left, top, right, bottom], axis=-1) * (size / side)
    found = ops.max(masks, axis=(1, 2)) > THRESHOLD
    tight = ops.where(ops.expand_dims(found, -1), tight, boxes)
    cells = ops.expand_dims((tight - origin) / ops.maximum(size, MIN_SIZE) * side, 1)
    levels = ops.zeros_like(cells[..., 0], dtype="int32")
    inside = roi_align([ops.expand_dims(masks, -1)], (1,), cells, levels, side, 1)
    return tight, ops.reshape(inside, (-1, side, side))


def _ends(line: Any) -> tuple[Any, Any]:
    """Where lines (N, M) of probabilities pass THRESHOLD first and last, in cells, 0 to M."""
    count = line.shape[-1]
    padded = ops.pad(line, ((0, 0), (1, 1)))
    above = ops.cast(padded > THRESHOLD, "int32")
    first = ops.maximum(ops.argmax(above, axis=-1), 1)
    last = ops.minimum(count + 1 - ops.argmax(ops.flip(above, axis=-1), axis=-1), count)

    def beyond(inner: Any, outer: Any) -> Any:
        """From the middle of the last cell above to where the line passes the threshold, in cells."""
        high, low = (
            ops.squeeze(ops.take_along_axis(padded, ops.expand_dims(place, -1), axis=-1), -1)
            for place in (inner, outer)
        )
        return (high - THRESHOLD) / (high - low)

    # The middle of the padded cell i is at i - 0.5.
    start = ops.cast(first, "float32") - np.float32(0.5) - beyond(first, first - 1)
    end = ops.cast(last, "float32") - np.float32(0.5) + beyond(last, last + 1)
    return ops.maximum(start, 0), ops.minimum(end, count)
