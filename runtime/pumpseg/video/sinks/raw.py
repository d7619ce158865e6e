"""Annotated frames as raw bytes on standard output, for ffmpeg and other programs behind a pipe."""

from __future__ import annotations

import logging
import sys

import cv2
import numpy as np
from numpy.typing import NDArray

from pumpseg.errors import SinkError
from pumpseg.instances import Instances
from pumpseg.video.sources.frame_source import Frame, VideoTiming

log = logging.getLogger("pumpseg")


class RawSink:
    """Writes drawn frames as bgr24, all of the size of the first, and says once what a reader must be told."""

    draws = True

    def __init__(self, timing: VideoTiming | None) -> None:
        if sys.stdout is None:
            raise SinkError("standard output is closed")
        if sys.stdout.isatty():
            raise SinkError("raw frames would flood this terminal: send them on with a pipe, | ffmpeg ...")
        self._rate = None if timing is None else timing.rate
        self._size: tuple[int, int] | None = None

    def write(self, frame: Frame, instances: Instances, drawn: NDArray[np.uint8] | None) -> None:
        assert drawn is not None
        size = (drawn.shape[1], drawn.shape[0])
        if self._size is None:
            self._size = size
            rate = "" if self._rate is None else f" -framerate {self._rate}"
            log.info("raw frames: -f rawvideo -pixel_format bgr24 -video_size %dx%d%s", *size, rate)
        elif self._size != size:
            drawn = cv2.resize(drawn, self._size)  # type: ignore[assignment]
        try:
            sys.stdout.buffer.write(np.ascontiguousarray(drawn).data)
            sys.stdout.buffer.flush()
        except OSError as error:
            raise SinkError(f"cannot write raw frames to standard output: {error.strerror}") from None

    def complete(self, *, interrupted: bool = False) -> None:
        """Every frame is out already."""

    def discard(self) -> None:
        """What is out stays out."""
