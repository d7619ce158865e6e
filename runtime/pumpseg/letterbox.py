"""Fit a frame of any size into the model input and map boxes back; training and the runtime share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

GREY = (127, 127, 127)


@dataclass(frozen=True)
class Letterbox:
    """Where a frame lies inside the model input. All sizes are (height, width) in pixels.

    The content lies in the top-left corner, so the two directions differ by a factor only. The factors are
    per axis and exact for the rounded content size.
    """

    frame_size: tuple[int, int]
    content_size: tuple[int, int]
    input_size: tuple[int, int]

    @property
    def x_factor(self) -> float:
        """Frame pixels per input pixel, horizontally."""
        return self.frame_size[1] / self.content_size[1]

    @property
    def y_factor(self) -> float:
        """Frame pixels per input pixel, vertically."""
        return self.frame_size[0] / self.content_size[0]

    def to_frame(self, boxes: NDArray[np.floating]) -> NDArray[np.float32]:
        """Boxes xyxy (..., 4) in input pixels -> float32 (..., 4) in frame pixels, not clipped."""
        factors = np.array([self.x_factor, self.y_factor] * 2)
        return (np.asarray(boxes) * factors).astype(np.float32)

    def to_input(self, boxes: NDArray[np.floating]) -> NDArray[np.float32]:
        """Boxes xyxy (..., 4) in frame pixels -> float32 (..., 4) in input pixels."""
        factors = np.array([self.x_factor, self.y_factor] * 2)
        return (np.asarray(boxes) / factors).astype(np.float32)


def place(frame_size: tuple[int, int], input_size: tuple[int, int]) -> Letterbox:
    """Where a frame of frame_size (h, w) goes in an input of input_size (h, w), its aspect ratio kept."""
    (frame_h, frame_w), (input_h, input_w) = frame_size, input_size
    if min(frame_h, frame_w, input_h, input_w) < 1:
        raise ValueError(f"cannot letterbox a frame of {frame_h}x{frame_w} into {input_h}x{input_w}")
    scale = min(input_h / frame_h, input_w / frame_w)
    content_size = (max(1, round(frame_h * scale)), max(1, round(frame_w * scale)))
    return Letterbox((frame_h, frame_w), content_size, (input_h, input_w))


def letterbox(
    frame: NDArray[np.uint8],
    size: tuple[int, int],
    fill: Sequence[int] = GREY,
    out: NDArray[np.uint8] | None = None,
    *,
    swap_red_blue: bool = False,
) -> tuple[NDArray[np.uint8], Letterbox]:
    """Scale a frame into the top-left corner of an image of a fixed size and fill the rest.

    frame: uint8 (H, W, 3). size: (height, width) of the result. fill: one value per channel of the result.
    out: uint8 (height, width, 3), C-contiguous, written and returned when given.
    swap_red_blue: give RGB for a BGR frame (and the reverse), in one pass over the small image only.

    Bilinear, except when the frame shrinks to less than half: then pixel areas are averaged, because bilinear
    sampling would skip pixels.

    Returns the image, uint8 (height, width, 3), and where the frame lies in it.
    Raises ValueError for a frame or an `out` of another shape or type.
    """
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"letterbox needs uint8 (H, W, 3), got {frame.dtype} {frame.shape}")
    placement = place((frame.shape[0], frame.shape[1]), size)
    input_h, input_w = placement.input_size
    if out is None:
        out = np.empty((input_h, input_w, 3), np.uint8)
    elif out.dtype != np.uint8 or out.shape != (input_h, input_w, 3) or not out.flags.c_contiguous:
        raise ValueError(f"out must be C-contiguous uint8 {(input_h, input_w, 3)}, got {out.dtype} {out.shape}")

    content_h, content_w = placement.content_size
    out[content_h:] = fill
    out[:content_h, content_w:] = fill
    content = out[:content_h, :content_w]
    if placement.content_size == placement.frame_size:
        scaled: NDArray[np.uint8] = frame
    else:
        shrinks_past_half = max(placement.x_factor, placement.y_factor) > 2
        scaled = cv2.resize(  # type: ignore[assignment]
            frame,
            (content_w, content_h),
            dst=None if swap_red_blue else content,
            interpolation=cv2.INTER_AREA if shrinks_past_half else cv2.INTER_LINEAR,
        )
    if swap_red_blue:
        cv2.cvtColor(scaled, cv2.COLOR_BGR2RGB, dst=content)
    elif scaled is not content:
        content[...] = scaled
    return out, placement
