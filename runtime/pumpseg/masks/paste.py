"""Masks inside their boxes: the model's cells, and the pixels pasted from them, as crops of the frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pumpseg.opencv import cv2

MASK_THRESHOLD = 0.5
REPLICATE, FADE = MASK_BORDERS = ("replicate", "fade")
"""What masks do beyond the middles of their outer cells: keep their value, or fade to zero one cell on."""


@dataclass(frozen=True, eq=False, repr=False)
class CropMask:
    """The mask of one instance inside its box: bool (h, w), its top-left pixel at column x and row y.

    >>> import numpy as np
    >>> from pumpseg import CropMask
    >>> CropMask(5, 7, np.ones((20, 30), bool))
    CropMask(30x20 at x=5, y=7, 600 pixels)
    """

    x: int
    y: int
    mask: NDArray[np.bool_]

    @cached_property
    def area(self) -> int:
        """Pixels in the mask. Counted once and kept."""
        return int(np.count_nonzero(self.mask))

    @cached_property
    def centroid(self) -> tuple[float, float]:
        """x and y of the middle of the mask's pixels in frame pixels, which has at least one. Made once and kept."""
        pixels = self.mask.view(np.uint8)
        # Sums first: cv2.moments takes five times as long.
        middle = [
            (sums @ np.arange(len(sums))) / sums.sum() + 0.5
            for sums in (cv2.reduce(pixels, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel() for axis in (0, 1))
        ]
        return self.x + float(middle[0]), self.y + float(middle[1])

    def __repr__(self) -> str:
        height, width = self.mask.shape
        return f"CropMask({width}x{height} at x={self.x}, y={self.y}, {self.area} pixels)"


@dataclass(frozen=True, eq=False)
class CellMasks:
    """Masks as the model gives them: a grid of probabilities in a box each, pasted when pixels are asked for.

    probabilities: float32 (N, M, M). boxes: float32 (N, 4), xyxy in frame pixels, that the M x M cells cover. They are
    not clipped to the frame, so that masks do not shrink at its edge. border: see `paste_crop`.
    """

    probabilities: NDArray[np.float32]
    boxes: NDArray[np.float32]
    border: str = REPLICATE

    def __post_init__(self) -> None:
        count, side = len(self.boxes), self.probabilities.shape[-1]
        for name, array, shape in (
            ("probabilities", self.probabilities, (count, side, side)),
            ("boxes", self.boxes, (count, 4)),
        ):
            if array.shape != shape:
                raise ValueError(f"mask {name} have the shape {array.shape}, {shape} is needed")

    @classmethod
    def concatenate(cls, parts: Sequence[CellMasks]) -> CellMasks:
        """The masks of at least one part, in order; the parts must have the same border and number of cells."""
        return replace(
            parts[0],
            probabilities=np.concatenate([part.probabilities for part in parts]),
            boxes=np.concatenate([part.boxes for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Any) -> CellMasks:
        """Those at a slice, bool mask or index array."""
        return replace(self, probabilities=self.probabilities[index], boxes=self.boxes[index])

    def paste(self, frame_size: tuple[int, int]) -> tuple[CropMask, ...]:
        """The pixels of every mask in a frame of frame_size (height, width)."""
        return tuple(
            paste_crop(probabilities, box, frame_size, border=self.border)
            for probabilities, box in zip(self.probabilities, self.boxes, strict=True)
        )


def paste_crop(
    probabilities: NDArray[np.float32],
    box: NDArray[np.floating],
    frame_size: tuple[int, int],
    *,
    border: str = REPLICATE,
) -> CropMask:
    """Paste one mask (M, M) into its box (4,), xyxy in frame pixels, as a bool crop of the frame.

    Cell j covers [x1 + j * w / M, x1 + (j + 1) * w / M). The cells are sampled bilinearly at the pixel
    centres, as detectron2 does (`paste_masks_in_image`, grid_sample with align_corners=False) with two
    differences at the border: the outer cells are replicated rather than faded to zero, and only pixels
    whose centre is inside the box are set. A box thinner than a pixel with no pixel centre in the frame sets the
    pixel under its middle instead. border: "replicate", or "fade": the outer half cells do fade to zero,
    as Matterport's `unmold_mask` does.

    OpenCV 5 samples in full precision; OpenCV 4 rounds positions to 1/32 cell.
    """
    mask_h, mask_w = probabilities.shape
    frame_h, frame_w = frame_size
    x1, y1, x2, y2 = (float(value) for value in box)
    left, right, x1, x2 = _pixel_span(x1, x2, frame_w)
    top, bottom, y1, y2 = _pixel_span(y1, y2, frame_h)
    if right <= left or bottom <= top:
        return CropMask(left, top, np.zeros((max(0, bottom - top), max(0, right - left)), np.bool_))

    cells_per_x, cells_per_y = mask_w / (x2 - x1), mask_h / (y2 - y1)
    crop_to_cells = np.array(
        [
            [cells_per_x, 0, (left + 0.5 - x1) * cells_per_x - 0.5],
            [0, cells_per_y, (top + 0.5 - y1) * cells_per_y - 0.5],
        ]
    )
    sampled = cv2.warpAffine(
        np.ascontiguousarray(probabilities, np.float32),
        crop_to_cells,
        (right - left, bottom - top),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    if border == FADE:
        columns = _fade_weights(crop_to_cells[0, 2], cells_per_x, right - left, mask_w)
        rows = _fade_weights(crop_to_cells[1, 2], cells_per_y, bottom - top, mask_h)
        sampled = sampled * (rows[:, None] * columns)
    return CropMask(left, top, sampled >= MASK_THRESHOLD)


def _fade_weights(first: float, step: float, pixels: int, cells: int) -> NDArray[np.float32]:
    """Weights (pixels,) of samples at first, first + step, ... among cells whose middles are 0, 1, ..., cells - 1."""
    at = first + step * np.arange(pixels)
    return np.asarray(1 + np.minimum(0, np.minimum(at, cells - 1 - at)), np.float32)


def _pixel_span(low: float, high: float, frame_side: int) -> tuple[int, int, float, float]:
    """First pixel, one past the last pixel, and the span of the box, along one axis."""
    first, end = max(int(np.ceil(low - 0.5)), 0), min(int(np.ceil(high - 0.5)), frame_side)
    if end <= first and high - low < 1 and low < frame_side and high > 0:
        middle = (max(low, 0.0) + min(high, float(frame_side))) / 2
        first = min(int(middle), frame_side - 1)
        end, low, high = first + 1, float(first), float(first + 1)
    first = min(first, frame_side)
    return first, max(end, first), low, high


def shared_pixels(one: CropMask, other: CropMask) -> int:
    """Pixels that two masks of a frame have in common."""
    left, top = max(one.x, other.x), max(one.y, other.y)
    right = min(one.x + one.mask.shape[1], other.x + other.mask.shape[1])
    bottom = min(one.y + one.mask.shape[0], other.y + other.mask.shape[0])
    if right <= left or bottom <= top:
        return 0
    first, second = (
        crop.mask[top - crop.y : bottom - crop.y, left - crop.x : right - crop.x].view(np.uint8)
        for crop in (one, other)
    )
    # OpenCV takes half of the time that NumPy does.
    return cv2.countNonZero(cv2.bitwise_and(first, second))
