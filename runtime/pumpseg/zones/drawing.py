"""Draws zones and lines on a frame, with their counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pumpseg.drawing import draw_tag, stroke_unit
from pumpseg.opencv import cv2
from pumpseg.zones.counts import LineCount, ZoneCount, ZoneCounts

COLOUR = (255, 255, 255)
EDGE = (30, 30, 30)
_ARROW = 22  # pixels per unit


def draw_shapes(drawn: NDArray[np.uint8], counts: ZoneCounts) -> None:
    """Draw the outlines of zones, and lines with an arrow to where "in" is, onto a frame, uint8 BGR (H, W, 3)."""
    unit = _unit(drawn)
    for zone in counts.zones.values():
        _stroke(drawn, [zone.corners], unit, closed=True)
    for line in counts.lines.values():
        _stroke(drawn, [line.ends, *_arrow(line, unit)], unit, closed=False)


def draw_counts(drawn: NDArray[np.uint8], counts: ZoneCounts) -> None:
    """Draw a tag for each zone and line with its counts onto a frame, uint8 BGR (H, W, 3)."""
    unit = _unit(drawn)
    tags: list[tuple[int, int, int, int]] = []
    for zone in counts.zones.values():
        x, y = min(zone.corners.tolist(), key=lambda corner: (corner[1], corner[0]))
        text = _zone_text(zone, tracked=counts.tracked)
        tags.append(draw_tag(drawn, text, x, y, EDGE, unit, above=False, avoid=tags))
    for line in counts.lines.values():
        x, y = line.ends[0].tolist()
        tags.append(draw_tag(drawn, _line_text(line), x, y, EDGE, unit, avoid=tags))


def _unit(drawn: NDArray[np.uint8]) -> float:
    height, width = drawn.shape[:2]
    return stroke_unit((height, width))


def _zone_text(zone: ZoneCount, *, tracked: bool) -> str:
    text = f"{zone.name} {zone.count}, {zone.occupancy:.0%}"
    return text + (f", in {sum(zone.entered.values())} out {sum(zone.left.values())}" if tracked else "")


def _line_text(line: LineCount) -> str:
    return f"{line.name} in {sum(line.crossed_in.values())} out {sum(line.crossed_out.values())}"


def _arrow(line: LineCount, unit: float) -> Sequence[NDArray[np.float64]]:
    """The strokes of an arrow from the middle of a line to its right, as seen by who walks along it."""
    start, end = line.ends
    along = (end - start) / np.hypot(*(end - start))
    right = np.array([-along[1], along[0]])
    middle, length = (start + end) / 2, _ARROW * unit
    tip = middle + length * right
    barbs = [tip - 0.4 * length * (right + side * along) for side in (-1, 1)]
    return [np.array([middle, tip]), np.array([barbs[0], tip, barbs[1]])]


def _stroke(drawn: NDArray[np.uint8], strokes: Sequence[NDArray[np.float64]], unit: float, *, closed: bool) -> None:
    """White strokes with a dark edge, which show on any picture."""
    shift = 4  # OpenCV draws in sixteenths of a pixel, whose centre it has at 0
    points = [np.round((stroke - 0.5) * 2**shift).astype(np.int32) for stroke in strokes]
    for colour, width in ((EDGE, 4 * unit), (COLOUR, 2 * unit)):
        cv2.polylines(drawn, points, closed, colour, max(1, round(width)), cv2.LINE_AA, shift)
