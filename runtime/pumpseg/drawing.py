"""Draw instances on a frame: a tint, a contour and a label each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pumpseg.errors import OptionError
from pumpseg.images import Image, as_frame, opencv_text
from pumpseg.opencv import cv2

if TYPE_CHECKING:
    from pumpseg.instances import Instances

Color = Literal["auto", "class", "instance", "track"]
COLORS: tuple[Color, ...] = get_args(Color)

# BGR. Bright, neighbours far apart in hue, and none the orange of a pumpkin.
PALETTE = (
    (255, 196, 0),
    (170, 0, 255),
    (80, 220, 60),
    (255, 80, 110),
    (40, 235, 255),
    (230, 50, 150),
    (200, 230, 0),
    (60, 60, 255),
    (255, 130, 30),
    (120, 255, 170),
)
UNCONFIRMED_COLOUR = (190, 190, 190)
TINT = 0.38

_FONT = cv2.FONT_HERSHEY_DUPLEX


def draw(
    image: Image,
    instances: Instances,
    labels: Sequence[str] | Literal[False] | None = None,
    *,
    color: Color = "auto",
    masks_only: bool = False,
) -> NDArray[np.uint8]:
    """A copy of the image with the instances drawn on it, uint8 BGR (H, W, 3).

    image: the one the instances were found in: a BGR array, a path, or a PIL image. labels: a text for each instance
    instead of its class and score, "" for no tag; False draws no tags. masks_only: neither contours nor tags.
    color: what decides an instance's colour. "class": its class. "track": its track id; grey without one.
    "instance": its place from left to right, which changes less between frames than the order of scores. "auto" takes
    "track" for tracked instances, else "class" if the model has several classes, else "instance".
    Raises ValueError for another array or an image of another size, OptionError for another color, or for "track"
    without a tracker.

    >>> import numpy as np
    >>> from pumpseg import Instances, draw
    >>> frame = np.zeros((48, 64, 3), np.uint8)
    >>> draw(frame, Instances.empty((48, 64)), color="class", masks_only=True).shape
    (48, 64, 3)
    """
    frame = as_frame(image)
    if frame.shape[:2] != instances.frame_size:
        seen, found = ("x".join(map(str, size[::-1])) for size in (frame.shape[:2], instances.frame_size))
        raise ValueError(f"the frame is {seen}, its instances were found in one of {found}")
    drawn = frame.copy()
    unit = stroke_unit(instances.frame_size)
    colours = instance_colours(instances, color)
    crops = instances.crop_masks
    # The best score comes first and is drawn last, on top.
    for i in reversed(range(len(instances))):
        mask = crops[i].mask.view(np.uint8)
        if not mask.size or not mask.any():
            continue
        x, y, (height, width) = crops[i].x, crops[i].y, mask.shape
        region = drawn[y : y + height, x : x + width]
        cv2.copyTo(cv2.LUT(region, _tint_table(colours[i])), mask, region)
        if not masks_only:
            contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_TC89_L1)
            thickness = max(1, round(2 * unit))
            cv2.drawContours(drawn, contours, -1, colours[i], thickness, cv2.LINE_AA, offset=(x, y))
    if masks_only or labels is False:
        return drawn
    for i in reversed(range(len(instances))):
        text = _label(instances, i) if labels is None else labels[i]
        if text:
            x, y = instances.boxes[i, :2].tolist()
            draw_tag(drawn, text, x, y, colours[i], unit)
    return drawn


def instance_colours(instances: Instances, color: Color = "auto") -> list[tuple[int, int, int]]:
    """The colour of each instance, BGR; color: see `draw`, which raises the same errors."""
    if color not in COLORS:
        raise OptionError(f"unknown color {color!r}; there are {', '.join(COLORS)}")
    tracked = instances.track_ids is not None
    if color == "auto":
        color = "track" if tracked else "class" if len(instances.class_names) > 1 else "instance"
    if color == "track":
        if not tracked:
            raise OptionError('color "track" needs track ids: track the frames first')
        ids = map(instances.track_id, range(len(instances)))
        return [UNCONFIRMED_COLOUR if number is None else PALETTE[number % len(PALETTE)] for number in ids]
    if color == "class":
        numbers = instances.class_ids
    else:
        centres = instances.boxes[:, 0] + instances.boxes[:, 2]
        numbers = np.argsort(np.argsort(centres, kind="stable"), kind="stable")
    return [PALETTE[int(number) % len(PALETTE)] for number in numbers]


def _tint_table(colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Every channel value with the tint, uint8 (1, 256, 3)."""
    values = np.arange(256)[None, :, None]
    return ((1 - TINT) * values + TINT * np.array(colour)).round().astype(np.uint8)


def _label(instances: Instances, i: int) -> str:
    label = f"{instances.labels[i]} {instances.scores[i]:.0%}"
    track_id = instances.track_id(i)
    return label if track_id is None else f"#{track_id} {label}"


def stroke_unit(frame_size: tuple[int, int]) -> float:
    """The width of a thin stroke in a frame of frame_size (height, width), in pixels; texts are in proportion."""
    return max(0.75, min(frame_size) / 540)


def draw_tag(
    drawn: NDArray[np.uint8],
    text: str,
    x: float,
    y: float,
    colour: tuple[int, int, int],
    unit: float,
    *,
    above: bool = True,
    avoid: Sequence[tuple[int, int, int, int]] = (),
) -> tuple[int, int, int, int]:
    """Draw a text on a filled tag whose lower left corner is at (x, y), or the upper left one, kept inside the frame.

    above: draw it above y if there is room. avoid: tags (left, top, right, bottom) below which it moves if it overlaps
    them. Returns where it is.
    """
    text = opencv_text(text)
    frame_h, frame_w = drawn.shape[:2]
    scale, stroke, pad = 0.45 * unit, max(1, round(0.9 * unit)), max(2, round(4 * unit))
    (text_w, text_h), baseline = cv2.getTextSize(text, _FONT, scale, stroke)
    tag_w, tag_h = text_w + 2 * pad, text_h + baseline + pad
    left = max(0, min(round(x), frame_w - tag_w))
    top = round(y) - tag_h if above else round(y)
    top = max(0, min(top if top >= 0 else round(y), frame_h - tag_h))
    for other in sorted(avoid, key=lambda tag: tag[1]):
        if left < other[2] and other[0] < left + tag_w and top < other[3] and other[1] < top + tag_h:
            top = max(0, min(other[3] + 1, frame_h - tag_h))
    cv2.rectangle(drawn, (left, top), (left + tag_w - 1, top + tag_h - 1), colour, cv2.FILLED)
    luminance = 0.114 * colour[0] + 0.587 * colour[1] + 0.299 * colour[2]
    ink = (20, 20, 20) if luminance > 110 else (255, 255, 255)
    origin = (left + pad, top + pad // 2 + text_h)
    cv2.putText(drawn, text, origin, _FONT, scale, ink, stroke, cv2.LINE_AA)
    return left, top, left + tag_w, top + tag_h
