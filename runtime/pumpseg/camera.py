"""Cameras and network streams: the newest frame wins, whatever was missed is counted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from time import monotonic

import cv2
import numpy as np
from numpy.typing import NDArray

from pumpseg.errors import SourceError
from pumpseg.frames import Frame, VideoTiming

_MILLISECONDS = Fraction(1, 1000)


class Camera:
    """A camera number or a stream's URL, read by a thread of its own so that frames never queue up.

    Drivers buffer a few frames and mostly ignore CAP_PROP_BUFFERSIZE; reading all the time and keeping only
    the newest frame is what keeps the picture live. An exception in the thread is raised where the frames
    are taken.

    Raises SourceError if the camera does not open, and while iterating if it stops giving frames.
    """

    inputs: tuple[Path, ...] = ()
    length: int | None = None
    live = True

    def __init__(self, name: str, device: int | str) -> None:
        self.name = name
        self.dropped = 0
        self._device = device
        self._capture = _open_capture(device)
        if not self._capture.isOpened():
            self._capture.release()
            raise SourceError(f"{name} cannot be opened: no such camera or stream, or another program holds it")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.timing: VideoTiming | None = VideoTiming(
            _MILLISECONDS, Fraction(rate).limit_denominator(1001) if 0 < rate <= 1000 else Fraction(30)
        )
        self._changed = threading.Condition()
        self._newest: tuple[NDArray[np.uint8], float] | None = None
        self._error: BaseException | None = None
        self._closed = False
        self._reader = threading.Thread(target=self._read, name="pumpseg-camera", daemon=True)
        self._reader.start()

    def __iter__(self) -> Iterator[Frame]:
        index, first_time, last_pts = 0, None, -1
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._newest or self._error or self._closed)
                if self._closed:
                    return
                if self._newest is None:
                    assert self._error is not None
                    raise self._error
                image, seen = self._newest
                self._newest = None
            first_time = seen if first_time is None else first_time
            pts = max(last_pts + 1, round((seen - first_time) / _MILLISECONDS))
            yield Frame(image, self.name, index, seen - first_time, pts)
            index, last_pts = index + 1, pts

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        # A stream that hangs holds the thread inside the driver: that must not hold up the exit.
        self._reader.join(timeout=2)
        if not self._reader.is_alive():
            self._capture.release()

    def _read(self) -> None:
        try:
            while not self._closed:
                read, image = self._capture.read()
                seen = monotonic()
                if not read:
                    raise SourceError(f"{self.name} stopped giving frames")
                with self._changed:
                    self.dropped += self._newest is not None
                    self._newest = (image, seen)  # type: ignore[assignment]
                    self._changed.notify_all()
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()


def _open_capture(device: int | str) -> cv2.VideoCapture:
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        capture = cv2.VideoCapture(device)
    finally:
        cv2.utils.logging.setLogLevel(level)
    if isinstance(device, int):
        # Uncompressed YUYV over USB reaches 5 to 10 frames a second at 720p, MJPG 30.
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return capture
