"""Zones and lines as a user draws them, and where they are in a frame of any size."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pumpseg.checks import check_share
from pumpseg.errors import OptionError
from pumpseg.masks.paste import CropMask

Point = tuple[float, float]
Points = Sequence[Sequence[float]] | Sequence[float]
"""Pairs of x and y, or the same numbers in a row."""

_NAME = re.compile(r"\w[\w-]*")
_MIN_PIXELS = 2.0  # what spans less is in fractions, one of them beyond 1


@dataclass(frozen=True)
class Zone:
    """A polygon in the picture.

    name: one word of letters, digits, "_" and "-". corners: three or more, in order around the zone, as pairs of x and
    y or as x, y, x, y, ...: fractions of the frame's width and height if all are from 0 to 1, else pixels, pixel
    (row, column) covering [column, column + 1) x [row, row + 1). size: (width, height) of the frame that pixels refer
    to; None for the first frame. A frame of another size scales them. share: an object is in the zone if at least this
    share of its mask is. classes: names of those that count; empty for all.

    Raises OptionError for a wrong name, number, share or size, and for an outline that crosses itself or is empty.

    >>> from pumpseg import Zone
    >>> Zone("bench", [0.1, 0.5, 0.4, 0.5, 0.4, 0.9, 0.1, 0.9]).corners[0]
    (0.1, 0.5)
    >>> Zone.parse("gate:pumpkin=0,300,200,300,200,480").classes
    ('pumpkin',)
    """

    name: str
    corners: Points
    share: float = 0.5
    classes: Sequence[str] = ()
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        _normalize(self, "corners", self.corners)
        try:
            check_share("share", self.share)
        except OptionError as error:
            raise OptionError(f"{self}: {error}") from None
        if self.share == 0:
            raise OptionError(f"{self}: share must be above 0")
        corners = self.points
        if len(corners) < 3:
            raise OptionError(f"{self}: a zone needs at least 3 corners, got {len(corners)}")
        if _crosses_itself(corners):
            raise OptionError(f"{self}: its outline crosses itself: name the corners in order around the zone")
        if _area(corners) <= 0:
            raise OptionError(f"{self}: its corners are on one line")

    def __str__(self) -> str:
        return f"zone {self.name}"

    @classmethod
    def parse(cls, text: str) -> Zone:
        """From NAME=x,y,x,y,... or NAME:CLASS,CLASS=x,y,... Raises OptionError."""
        name, classes, numbers = _parsed("zone", text, "x,y,x,y,x,y,...")
        return cls(name, numbers, classes=classes)

    @property
    def points(self) -> tuple[Point, ...]:
        """The corners as pairs."""
        return self.corners  # type: ignore[return-value] # since __post_init__


@dataclass(frozen=True)
class Line:
    """A line in the picture, from one point to another, which objects cross.

    Who walks from the first point to the second sees objects that cross from left to right as going in: downwards, if
    the line was drawn from left to right. name, classes, size: see `Zone`. ends: two points, in fractions or pixels as
    `Zone.corners`.

    Raises OptionError for a wrong name, number or size, and for two ends in one place.

    >>> from pumpseg import Line
    >>> Line.parse("road=0.1,0.5,0.9,0.5").ends
    ((0.1, 0.5), (0.9, 0.5))
    """

    name: str
    ends: Points
    classes: Sequence[str] = ()
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        _normalize(self, "ends", self.ends)
        if len(self.points) != 2:
            raise OptionError(f"{self}: a line has 2 ends, got {len(self.points)} points")

    def __str__(self) -> str:
        return f"line {self.name}"

    @classmethod
    def parse(cls, text: str) -> Line:
        """From NAME=x,y,x,y or NAME:CLASS,CLASS=x,y,x,y. Raises OptionError."""
        name, classes, numbers = _parsed("line", text, "x,y,x,y")
        return cls(name, numbers, classes=classes)

    @property
    def points(self) -> tuple[Point, ...]:
        """The ends as pairs."""
        return self.ends  # type: ignore[return-value] # since __post_init__


Shape = Zone | Line


def check_names(shapes: Iterable[Shape]) -> None:
    """Raise OptionError if two zones or lines have one name."""
    names: set[str] = set()
    for shape in shapes:
        if shape.name in names:
            raise OptionError(f"there are two zones or lines named {shape.name}: name each differently")
        names.add(shape.name)


def check_classes(shapes: Iterable[Shape], class_names: Sequence[str]) -> None:
    """Raise OptionError if a zone or line names a class that a model with these classes does not have."""
    for shape in shapes:
        for name in shape.classes:
            if name not in class_names:
                raise OptionError(f"{shape}: no class {name!r}; there are {', '.join(class_names)}")


def in_fractions(shape: Shape) -> bool:
    """Whether its numbers are fractions of the frame, not pixels."""
    return all(max(point) <= 1 for point in shape.points)


def on_frame(
    shape: Shape, frame_size: tuple[int, int], first_size: tuple[int, int] | None = None
) -> NDArray[np.float64]:
    """Its points (K, 2), x y in pixels of a frame of frame_size (height, width).

    first_size: (height, width) of the frame that pixels refer to if the shape has no size. Raises OptionError for
    pixels beyond it.
    """
    height, width = frame_size
    points = np.array(shape.points, np.float64)
    if in_fractions(shape):
        return points * (width, height)
    drawn_w, drawn_h = shape.size or (first_size or frame_size)[::-1]
    x, y = points.max(axis=0)
    if x > drawn_w or y > drawn_h:
        raise OptionError(
            f"{shape} reaches to x={x:g}, y={y:g}, but the frame is {drawn_w}x{drawn_h}; fractions must be from 0 to 1"
        )
    return points * (width / drawn_w, height / drawn_h)


def zone_mask(zone: Zone, frame_size: tuple[int, int], first_size: tuple[int, int] | None = None) -> CropMask:
    """The pixels of a zone, see `polygon_mask` and `on_frame`. Raises OptionError for none."""
    mask = polygon_mask(on_frame(zone, frame_size, first_size), frame_size)
    if not mask.area:
        raise OptionError(f"{zone} holds no pixel of a frame of {frame_size[1]}x{frame_size[0]}")
    return mask


def polygon_mask(corners: NDArray[np.float64], frame_size: tuple[int, int]) -> CropMask:
    """The pixels of a frame of frame_size (height, width) whose centres are inside a polygon (K, 2), by even-odd rule.

    OpenCV's fillPoly also sets what the outline touches, which makes a zone larger by half a pixel all around.
    """
    height, width = frame_size
    low, high = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0))
    left, top = (int(value) for value in np.clip(low, 0, (width, height)))
    right, bottom = (int(value) for value in np.clip(high, 0, (width, height)))
    # Of each row, whether the outline passes left of a pixel's centre an odd number of times.
    passes = np.zeros((bottom - top, right - left + 1), np.uint8)
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y1 == y2:
            continue
        first, end = (math.ceil(y - 0.5) for y in sorted((y1, y2)))
        rows = np.arange(max(first, top), min(end, bottom))
        x = x1 + (rows + 0.5 - y1) * (x2 - x1) / (y2 - y1)
        columns = np.clip(np.ceil(x - 0.5), left, right).astype(np.int64)
        passes[rows - top, columns - left] ^= 1
    inside = np.bitwise_xor.accumulate(passes[:, :-1], axis=1)
    return CropMask(left, top, inside.astype(np.bool_))


def _normalize(shape: Any, field: str, points: Any) -> None:
    """Check name, numbers, classes and size of a shape, and make its fields tuples."""
    kind = type(shape).__name__.lower()
    if not isinstance(shape.name, str) or not _NAME.fullmatch(shape.name):
        raise OptionError(f'the name of a {kind} must be one word of letters, digits, "_" and "-", got {shape.name!r}')
    object.__setattr__(shape, field, _pairs(shape, points))
    classes = shape.classes
    if isinstance(classes, str) or not all(isinstance(name, str) and name for name in classes):
        raise OptionError(f"{shape}: classes must be a list of class names, got {classes!r}")
    object.__setattr__(shape, "classes", tuple(classes))
    size = shape.size
    if size is not None:
        if len(size) != 2 or not all(isinstance(side, (int, np.integer)) and side > 0 for side in size):
            raise OptionError(f"{shape}: size must be a width and a height in pixels, got {size!r}")
        object.__setattr__(shape, "size", (int(size[0]), int(size[1])))
    spans = [max(values) - min(values) for values in zip(*shape.points, strict=True)]
    if max(spans) == 0:
        raise OptionError(f"{shape}: its points are all in one place")
    if not in_fractions(shape) and max(spans) < _MIN_PIXELS:
        raise OptionError(
            f"{shape} spans less than {_MIN_PIXELS:g} pixels; for fractions of the frame, all must be from 0 to 1"
        )


def _pairs(shape: Any, points: Any) -> tuple[Point, ...]:
    try:
        numbers = np.array(points, np.float64)
    except (TypeError, ValueError):
        raise OptionError(f"{shape}: must be numbers x, y, x, y, ..., got {points!r}") from None
    if numbers.ndim == 1 and numbers.size % 2 == 0:
        numbers = numbers.reshape(-1, 2)
    if numbers.ndim != 2 or numbers.shape[1] != 2 or not numbers.size:
        raise OptionError(f"{shape}: must be pairs of x and y, got {numbers.size} numbers")
    wrong = numbers[~(np.isfinite(numbers) & (numbers >= 0))]
    if wrong.size:
        raise OptionError(f"{shape}: must be fractions from 0 to 1, or pixels, got {wrong[0]:g}")
    return tuple((float(x), float(y)) for x, y in numbers)


def _parsed(kind: str, text: str, form: str) -> tuple[str, tuple[str, ...], list[float]]:
    name, equals, rest = text.partition("=")
    name, colon, classes = name.partition(":")
    if not equals or not name.strip():
        raise OptionError(f"a {kind} must be NAME={form} in pixels or fractions of the frame, got {text!r}")
    if colon and not all(part.strip() for part in classes.split(",")):
        raise OptionError(f"a {kind} for some classes must be NAME:CLASS,CLASS={form}, got {text!r}")
    numbers = []
    for part in rest.split(","):
        try:
            numbers.append(float(part))
        except ValueError:
            raise OptionError(f"{kind} {name.strip()}: {part.strip()!r} is not a number; {form} is needed") from None
    return name.strip(), tuple(part.strip() for part in classes.split(",")) if colon else (), numbers


def _area(corners: Sequence[Point]) -> float:
    x, y = np.array(corners).T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _crosses_itself(corners: Sequence[Point]) -> bool:
    edges = list(zip(corners, [*corners[1:], corners[0]], strict=True))
    return any(_cross(*one, *other) for i, one in enumerate(edges) for other in edges[i + 2 :])


def _cross(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether the segments a-b and c-d cross at a point inside both."""
    return _turn(a, b, c) * _turn(a, b, d) < 0 and _turn(c, d, a) * _turn(c, d, b) < 0


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
