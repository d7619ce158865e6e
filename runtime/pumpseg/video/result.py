"""The result of one frame, and what takes results: sinks, which write them, and viewers, which show them."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from pumpseg.drawing import Color, draw
from pumpseg.instances import Instances
from pumpseg.zones.counts import ZoneCounts
from pumpseg.zones.drawing import draw_counts, draw_shapes


@dataclass(frozen=True)
class Style:
    """How instances are drawn; see `pumpseg.draw`. color "track" becomes "auto" where nothing is tracked."""

    color: Color = "auto"
    labels: bool = True
    masks_only: bool = False

    def draw(
        self, frame: NDArray[np.uint8], instances: Instances, counts: ZoneCounts | None = None
    ) -> NDArray[np.uint8]:
        """A copy of the frame, uint8 BGR (H, W, 3), with the instances, and zones and lines, drawn on it."""
        color: Color = "auto" if self.color == "track" and instances.track_ids is None else self.color
        labels: Literal[False] | None = None if self.labels else False
        if counts is None or self.masks_only:
            return draw(frame, instances, labels, color=color, masks_only=self.masks_only)
        frame = frame.copy()
        draw_shapes(frame, counts)
        drawn = draw(frame, instances, labels, color=color)
        if self.labels:
            draw_counts(drawn, counts)
        return drawn


DEFAULT_STYLE = Style()


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """One frame of a source and the instances in it.

    frame: uint8 BGR (H, W, 3). source: what the frame comes from, as the user named it. index: of the frame in it,
    from 0. time: seconds since the source's first frame. pts: the same in units of the source's time base, None for
    images. stage_seconds: what each stage took, in the order of `stats.stage_names`. latency: seconds from a live
    frame's arrival to its result, None for files. dropped, reconnects: of the source so far. pixel_aspect: width of a
    pixel of the frame by its height, as it is to be shown. counts: of zones and lines, None where there are none.
    source_number: which of several sources it is from, in the order in which they were given, from 0.
    """

    frame: NDArray[np.uint8]
    instances: Instances
    source: str
    index: int
    time: float
    pts: int | None = None
    stage_seconds: dict[str, float] = field(default_factory=dict)
    latency: float | None = None
    dropped: int = 0
    reconnects: int = 0
    style: Style = DEFAULT_STYLE
    pixel_aspect: Fraction = Fraction(1)
    counts: ZoneCounts | None = None
    source_number: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _annotated: list[NDArray[np.uint8]] = field(default_factory=list, init=False)

    def __repr__(self) -> str:
        return f"Result({self.source!r}, index={self.index}, time={self.time:.3f}, {self.instances!r})"

    @property
    def annotated(self) -> NDArray[np.uint8]:
        """The frame with its instances drawn, uint8 BGR (H, W, 3): made at the first call, in any thread, and kept."""
        # functools.cached_property of Python 3.11 has one lock for all results.
        with self._lock:
            if not self._annotated:
                start = perf_counter()
                self._annotated.append(self.style.draw(self.frame, self.instances, self.counts))
                self.stage_seconds["draw"] = perf_counter() - start
            return self._annotated[0]


class Sink(ABC):
    """Writes results in order; leaving its with statement completes it, or discards it after an exception.

    A sink whose every write is complete in itself needs no more than `write`.
    path: of the file or folder; None for standard output. files: how many have been completed.
    """

    path: Path | None = None
    files: int = 0

    @abstractmethod
    def write(self, result: Result) -> None:
        """Write one result. Raises SinkError."""

    def complete(self, *, interrupted: bool = False) -> None:
        """Finish the output and give it its name. interrupted: the source has more frames. Does nothing twice."""

    def recover(self) -> Path | None:
        """Keep what is not complete, in place of `discard`; returns where, None if there is nothing."""
        self.discard()
        return self.path if self.path is not None and self.path.exists() else None

    def discard(self) -> None:
        """Remove what is not complete."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error_type is None:
                self.complete()
        finally:
            self.discard()


class Viewer(ABC):
    """Shows results; closed when its with statement is left."""

    @abstractmethod
    def show(self, result: Result, show_at: float | None = None) -> bool:
        """Show a result; False once the user wants no more.

        show_at: on the `time.perf_counter` clock, when the next result is due; math.inf for a still image, None for
        as soon as possible.
        """

    def close(self) -> None:
        """Stop showing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
