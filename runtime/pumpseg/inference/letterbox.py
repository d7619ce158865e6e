"""Fit a frame of any size into the model input and map boxes back; shared by training and the runtime."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pumpseg.opencv import cv2

GREY = (127, 127, 127)


@dataclass(frozen=True)
class Rule:
    """How frames are put into the model input: "letterbox" of docs/model-file.md.

    placement: "top-left", or "centred", which is Matterport's `resize_image(mode="square")`: a frame is enlarged until
    its shorter side has `min_side` pixels, by at least `min_scale`, is shrunk only to fit, and goes into the middle;
    boxes in the frame are whole pixels.
    """

    placement: str = "top-left"
    min_side: int = 0
    min_scale: float = 0.0

    def __post_init__(self) -> None:
        if self.placement not in ("top-left", "centred"):
            raise ValueError(f"unknown letterbox placement {self.placement!r}, 'top-left' and 'centred' are known")
        if not (0 <= self.min_side < math.inf and 0 <= self.min_scale < math.inf):
            raise ValueError(f"min_side {self.min_side} and min_scale {self.min_scale} must be finite, from 0")

    @property
    def is_centred(self) -> bool:
        return self.placement == "centred"


TOP_LEFT = Rule()


@dataclass(frozen=True)
class Letterbox:
    """Where a frame is inside the model input. All sizes are (height, width) in pixels, offset is (y, x).

    By the rule "top-left" coordinates differ by a factor only, per axis and exact for the rounded content size. By the
    rule "centred" the first and last pixel of the content are those of the frame, as in Matterport's `norm_boxes` and
    `denorm_boxes`.
    """

    frame_size: tuple[int, int]
    content_size: tuple[int, int]
    input_size: tuple[int, int]
    offset: tuple[int, int] = (0, 0)
    rule: Rule = TOP_LEFT

    def to_frame(self, boxes: NDArray[np.floating]) -> NDArray[np.float32]:
        """Boxes xyxy (..., 4) in input pixels -> float32 (..., 4) in frame pixels, not clipped."""
        (frame_h, frame_w), (content_h, content_w) = self.frame_size, self.content_size
        if not self.rule.is_centred:
            return np.asarray(boxes * np.array([frame_w / content_w, frame_h / content_h] * 2), np.float32)
        factors = [max(frame_w - 1, 1) / max(content_w - 1, 1), max(frame_h - 1, 1) / max(content_h - 1, 1)]
        last_pixel = np.array([0.0, 0.0, 1.0, 1.0])  # a box ends after it
        first = np.array([self.offset[1], self.offset[0]] * 2) + last_pixel
        return np.asarray(np.around((boxes - first) * np.array(factors * 2) + last_pixel), np.float32)


def place(frame_size: tuple[int, int], input_size: tuple[int, int], rule: Rule = TOP_LEFT) -> Letterbox:
    """Where a frame of frame_size (h, w) goes in an input of input_size (h, w), its aspect ratio kept."""
    (frame_h, frame_w), (input_h, input_w) = frame_size, input_size
    if min(frame_h, frame_w, input_h, input_w) < 1:
        raise ValueError(f"cannot letterbox a frame of {frame_h}x{frame_w} into {input_h}x{input_w}")
    scale = min(input_h / frame_h, input_w / frame_w)
    if rule.is_centred:
        wanted = max(1.0, rule.min_side / min(frame_size), rule.min_scale)
        if round(frame_h * wanted) <= input_h and round(frame_w * wanted) <= input_w:
            scale = wanted
    content_h, content_w = max(1, round(frame_h * scale)), max(1, round(frame_w * scale))
    offset = ((input_h - content_h) // 2, (input_w - content_w) // 2) if rule.is_centred else (0, 0)
    return Letterbox((frame_h, frame_w), (content_h, content_w), (input_h, input_w), offset, rule)


def letterbox(
    frame: NDArray[np.uint8],
    size: tuple[int, int],
    fill: Sequence[int] = GREY,
    out: NDArray[np.uint8] | None = None,
    *,
    swap_red_blue: bool = False,
    rule: Rule = TOP_LEFT,
) -> tuple[NDArray[np.uint8], Letterbox]:
    """Scale a frame into the top-left corner of an image of a fixed size, or as `rule` says, and fill the rest.

    frame: uint8 (H, W, 3). size: (height, width) of the result. fill: one value per channel of the result.
    out: uint8 (height, width, 3), C-contiguous, written and returned when given.
    swap_red_blue: give RGB for a BGR frame (and the reverse), in one pass over the small image.

    The frame is halved, each pixel the mean of 2x2, while both its sides are at least twice those wanted, and then
    resized bilinearly: bilinear sampling alone would skip pixels, and averaging areas of any size takes several times
    as long. The rule "centred" is bilinear only, as skimage 0.13 with mode="constant": towards black beyond the border,
    truncated to whole grey levels.

    Returns the image, uint8 (height, width, 3), and where the frame is in it.
    Raises ValueError for a frame or an `out` of another shape or type.
    """
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"letterbox needs uint8 (H, W, 3), got {frame.dtype} {frame.shape}")
    placement = place((frame.shape[0], frame.shape[1]), size, rule)
    input_h, input_w = placement.input_size
    if out is None:
        out = np.empty((input_h, input_w, 3), np.uint8)
    elif out.dtype != np.uint8 or out.shape != (input_h, input_w, 3) or not out.flags.c_contiguous:
        raise ValueError(f"out must be C-contiguous uint8 {(input_h, input_w, 3)}, got {out.dtype} {out.shape}")

    (content_h, content_w), (top, left) = placement.content_size, placement.offset
    content = out[top : top + content_h, left : left + content_w]
    # Assigning one value is many times faster than assigning a colour.
    colour = fill[0] if len(set(fill)) == 1 else fill
    out[:top] = out[top + content_h :] = colour
    out[top : top + content_h, :left] = out[top : top + content_h, left + content_w :] = colour
    if placement.content_size == placement.frame_size:
        scaled: NDArray[np.uint8] = frame
    elif rule.is_centred:
        scaled = _resize_towards_black(frame, (content_h, content_w))
    else:
        scaled = cv2.resize(  # type: ignore[assignment]
            _halved(frame, (content_h, content_w)),
            (content_w, content_h),
            dst=content,
            interpolation=cv2.INTER_LINEAR,
        )
    if swap_red_blue:
        cv2.cvtColor(scaled, cv2.COLOR_BGR2RGB, dst=content)
    elif scaled is not content:
        content[...] = scaled
    return out, placement


def _halved(frame: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The frame, halved while both its sides are at least twice those of `size` (h, w)."""
    while frame.shape[0] >= 2 * size[0] and frame.shape[1] >= 2 * size[1]:
        half = (frame.shape[1] // 2, frame.shape[0] // 2)
        frame = cv2.resize(frame, half, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return frame


def _resize_towards_black(frame: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """skimage.transform.resize(order=1, mode="constant", preserve_range=True), not anti-aliased, truncated to uint8.

    Truncation turns the smallest rounding error into a grey level, which a deep network amplifies: values close to a
    whole number in single precision are computed again in double, in the order of scipy.ndimage.zoom.
    """
    scaled = cv2.resize(frame.astype(np.float32), (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    axes = []
    for axis, (given, wanted) in enumerate(zip(frame.shape[:2], size, strict=True)):
        at = (np.arange(wanted) + 0.5) * (given / wanted) - 0.5
        low = np.floor(at).astype(np.int64)
        high_weight = at - low
        axes.append(((low, 1.0 - high_weight), (low + 1, high_weight)))
        # When a frame is enlarged, the samples of its border are up to half a pixel outside.
        outside = np.flatnonzero((at < 0) | (at > given - 1))
        lines = np.moveaxis(scaled, axis, 0)
        lines[outside] *= (1 + np.minimum(at, given - 1 - at))[outside].reshape(-1, 1, 1).astype(np.float32)
    result = scaled.astype(np.uint8)
    row, column, channel = np.nonzero(np.abs(scaled - np.rint(scaled)) < _CLOSE_TO_WHOLE)
    exact = np.zeros(len(row))
    for y, y_weight in axes[0]:
        for x, x_weight in axes[1]:
            inside = ((y >= 0) & (y < frame.shape[0]))[row] & ((x >= 0) & (x < frame.shape[1]))[column]
            values = frame[np.clip(y, 0, frame.shape[0] - 1)[row], np.clip(x, 0, frame.shape[1] - 1)[column], channel]
            exact += values * inside * y_weight[row] * x_weight[column]
    result[row, column, channel] = exact.astype(np.uint8)
    np.maximum(result, frame.min(), out=result)
    return result


_CLOSE_TO_WHOLE = 1e-3  # grey levels; rounding in single precision stays well below
