"""A video file that is played over and over in real time, as a camera would deliver it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from pumpseg.errors import SourceError
from pumpseg.video.sources.frame_source import Frame, Source

_USUAL_RATE = Fraction(30)


class ClipCapture:
    """A `Capture` of a video. opened: the video, open; reopen: opens it again, when it is at its end.

    Raises SourceError for still images.
    """

    skipped = 0

    def __init__(self, opened: Source, reopen: Callable[[], Source]) -> None:
        if opened.timing is None:
            opened.close()
            raise SourceError("is not a video or a camera")
        self._source, self._reopen = opened, reopen
        self.rate = opened.timing.rate or _USUAL_RATE
        self.negotiated = f"a video played over and over at {float(self.rate):g} fps"
        self.pixel_aspect = Fraction(1)
        self._frames: Iterator[Frame] = iter(opened)
        self._start = perf_counter()
        self._end = 0.0  # of the frame before, in seconds of the video
        self._closing = threading.Event()

    def read(self) -> tuple[NDArray[np.uint8], float]:
        if self._closing.is_set():
            raise SourceError("is closed")
        frame = next(self._frames, None)
        if frame is None:
            self._source.close()
            self._source = self._reopen()
            self._frames = iter(self._source)
            self._start, frame = self._start + self._end, next(self._frames, None)
        if frame is None:
            raise SourceError("the video has no frames")
        self._closing.wait(max(0.0, self._start + frame.time - perf_counter()))
        now = perf_counter()
        # A machine that is too slow for the video plays it late, not ever faster to catch up.
        self._start = max(self._start, now - frame.time)
        self._end = frame.time + float(1 / self.rate)
        self.pixel_aspect = frame.pixel_aspect
        return frame.image, now

    def close(self) -> None:
        self._closing.set()
        self._source.close()
