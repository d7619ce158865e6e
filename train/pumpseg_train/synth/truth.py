"""Exact masks as COCO records."""

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from pumpseg_train.synth.noise import Array


def mask_record(mask: Array) -> dict[str, Any]:
    """bool (h, w), not empty, to COCO fields: `bbox` [x, y, w, h] and `area` in pixels, `segmentation` as
    compressed RLE with its counts as text."""
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return {
        "bbox": [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1],
        "area": int(np.count_nonzero(mask)),
        "segmentation": {
            "size": [int(side) for side in rle["size"]],
            "counts": rle["counts"].decode("ascii"),
        },
    }
