"""Annotated frames as raw bytes on standard output, for ffmpeg and other programs behind a pipe."""

from __future__ import annotations

import logging
import sys

import numpy as np

from pumpseg.errors import SinkError
from pumpseg.opencv import cv2
from pumpseg.video.result import Result, Sink
from pumpseg.video.sinks.stdout import open_stdout
from pumpseg.video.sources.frame_source import VideoTiming

log = logging.getLogger("pumpseg")


class RawSink(Sink):
    """Writes annotated frames as bgr24, all of the size of the first; logs once the options that a reader needs."""

    def __init__(self, timing: VideoTiming | None) -> None:
        self._out = open_stdout()
        if sys.stdout.isatty():
            raise SinkError("raw frames would flood this terminal: pipe them to a program, | ffmpeg ...")
        self._rate = None if timing is None else timing.rate
        self._size: tuple[int, int] | None = None

    def write(self, result: Result) -> None:
        image = result.annotated
        size = (image.shape[1], image.shape[0])
        if self._size is None:
            self._size = size
            rate = "" if self._rate is None else f" -framerate {self._rate}"
            log.info("raw frames: -f rawvideo -pixel_format bgr24 -video_size %dx%d%s", *size, rate)
        elif self._size != size:
            image = cv2.resize(image, self._size)  # type: ignore[assignment]
        try:
            self._out.write(np.ascontiguousarray(image).data)
            self._out.flush()
        except OSError as error:
            raise SinkError(f"cannot write raw frames to standard output: {error.strerror}") from None
