"""A live source: the newest frame wins, dropped frames are counted, a lost camera is reopened."""

from __future__ import annotations

import logging
import math
import threading
import weakref
from collections.abc import Callable, Iterator
from fractions import Fraction
from time import monotonic, perf_counter

import numpy as np
from numpy.typing import NDArray

from pumpseg.errors import SourceError
from pumpseg.video.clean_up import clean_up
from pumpseg.video.sources.capture import Capture
from pumpseg.video.sources.frame_source import Frame, Source, VideoTiming

log = logging.getLogger("pumpseg")

FIRST_DELAY = 0.5
MAX_DELAY = 30.0
CLOSE_SECONDS = 2.0
# A frame of this age, as a share of the interval between frames, is about to be replaced: waiting for the next one
# costs little time, and its instances are of a picture nearly one interval newer.
NEARLY_OLD = (0.8, 1.2)
_MILLISECONDS = Fraction(1, 1000)


class Camera(Source):
    """A camera or stream, read by a thread of its own so that frames never queue up.

    Drivers buffer a few frames and mostly ignore CAP_PROP_BUFFERSIZE; reading all the time and keeping only
    the newest frame is what keeps the picture live. A frame that is about to be replaced is not worth its inference:
    the next one is awaited instead. An exception in the thread is raised where the frames are taken.

    connect: opens the camera; called at once, and again with exponential backoff after the camera was lost.
    reconnect_timeout: seconds to keep trying; 0 to give up at once.
    wait: waits for a number of seconds between two tries; by default until `close`.

    Raises SourceError if the camera does not open at first, and while iterating if it is lost for good.
    """

    live = True

    def __init__(
        self,
        name: str,
        connect: Callable[[], Capture],
        *,
        reconnect_timeout: float = math.inf,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self.name = name
        try:
            capture = connect()
        except SourceError as error:
            raise SourceError(f"{name} {error}") from None
        log.info("%s: %s", name, capture.negotiated)
        self.timing = VideoTiming(_MILLISECONDS, capture.rate)
        self._pixel_aspect = Fraction(1)
        self._changed = threading.Condition()
        self._newest: tuple[NDArray[np.uint8], float] | None = None
        self._interval = 0.0  # between frames of late, in seconds
        self._before: float | None = None  # when the last frame arrived
        self._error: BaseException | None = None
        self._closing = threading.Event()
        self._started = False
        self._index = self._pts = -1  # of the last frame that was taken
        self._first_time: float | None = None
        # The thread must not keep a camera alive that nobody uses any more.
        connection = _Connection(name, connect, capture, reconnect_timeout, self._closing, wait or self._closing.wait)
        weakref.finalize(self, clean_up, self._closing.set)
        self._reader = threading.Thread(
            target=_read, args=(connection, weakref.ref(self)), name="pumpseg-camera", daemon=True
        )
        self._reader.start()

    def __iter__(self) -> Iterator[Frame]:
        while self.wait_for_frame() and (frame := self.take()) is not None:
            yield frame

    def wait_for_frame(self) -> bool:
        """Wait until a frame is there that is not about to be replaced; False once the camera is closed.

        Raises SourceError if the camera is lost for good.
        """
        # Frames that arrived before the first was asked for, while a model was loaded, do not count as dropped.
        self._started = True
        with self._changed:
            self._changed.wait_for(lambda: self._newest or self._error or self._closing.is_set())
            if self._newest is None and self._error is not None and not self._closing.is_set():
                raise self._error
            if self._newest is not None:
                self._wait_if_nearly_old()
            return not self._closing.is_set()

    def take(self) -> Frame | None:
        """The newest frame, after `wait_for_frame`; None once the camera is closed."""
        with self._changed:
            if self._closing.is_set() or self._newest is None:
                return None
            image, arrived = self._newest
            self._newest = None
        self._first_time = arrived if self._first_time is None else self._first_time
        time = arrived - self._first_time
        self._index, self._pts = self._index + 1, max(self._pts + 1, round(time / _MILLISECONDS))
        return Frame(image, self.name, self._index, time, self._pts, arrived, self._pixel_aspect)

    def _wait_if_nearly_old(self) -> None:
        """Wait for the next frame if it is due and the newest one is old; called with the lock."""
        newest, (least, most) = self._newest, NEARLY_OLD
        assert newest is not None
        age = perf_counter() - newest[1]
        if least * self._interval <= age < most * self._interval:
            self._changed.wait_for(
                lambda: self._newest is not newest or self._closing.is_set(), most * self._interval - age
            )

    def close(self) -> None:
        with self._changed:
            if self._closing.is_set():
                return
            self._closing.set()
            self._changed.notify_all()
        # A stream that hangs blocks the thread until the read times out; that must not delay the exit.
        self._reader.join(CLOSE_SECONDS)

    def _arrived(self, frame: tuple[NDArray[np.uint8], float], skipped: int, *, reconnected: bool) -> None:
        with self._changed:
            self.reconnects += reconnected
            if self._before is not None and not reconnected:
                since = frame[1] - self._before
                self._interval += 0.2 * (since - self._interval) if self._interval else since
            self._before = frame[1]
            if self._started:
                self.dropped += skipped + (self._newest is not None)
            self._newest = frame
            self._changed.notify_all()

    def _failed(self, error: BaseException) -> None:
        with self._changed:
            self._error = error
            self._changed.notify_all()


def _read(connection: _Connection, camera_ref: weakref.ref[Camera]) -> None:
    """Pass frames to a camera until it is closed, or dropped without being closed."""
    try:
        while (received := connection.read()) is not None:
            camera = camera_ref()
            if camera is None:
                return
            camera._pixel_aspect = connection.pixel_aspect
            camera._arrived(received[0], received[1], reconnected=received[2])
            del camera, received
    except BaseException as error:
        camera = camera_ref()
        if camera is not None:
            camera._failed(error)
    finally:
        connection.close()


class _Connection:
    """A capture that is reopened when it is lost, until `closing` is set. pixel_aspect: of the last frame."""

    def __init__(
        self,
        name: str,
        connect: Callable[[], Capture],
        capture: Capture,
        reconnect_timeout: float,
        closing: threading.Event,
        wait: Callable[[float], object],
    ) -> None:
        self._name = name
        self._connect = connect
        self._capture: Capture | None = capture
        self._reconnect_timeout = reconnect_timeout
        self._closing = closing
        self._wait = wait
        self.pixel_aspect = Fraction(1)

    def read(self) -> tuple[tuple[NDArray[np.uint8], float], int, bool] | None:
        """The next frame with the time of its arrival, frames skipped before it, and whether the camera was lost.

        None when closing. Raises SourceError if the camera is lost for good.
        """
        lost, delay, reason = None, FIRST_DELAY, ""
        while not self._closing.is_set():
            try:
                capture = self._capture = self._capture or self._connect()
                skipped = capture.skipped
                frame = capture.read()
            except SourceError as error:
                self.close()
                if self._closing.is_set():
                    return None
                if not self._reconnect_timeout:
                    raise SourceError(f"{self._name} is lost: {error}") from None
                if str(error) != reason:
                    log.warning("%s is %slost: %s", self._name, "still " if lost else "", error)
                lost, reason = lost or monotonic(), str(error)
                if monotonic() - lost >= self._reconnect_timeout:
                    trying = f"did not come back within {self._reconnect_timeout:g} s"
                    raise SourceError(f"{self._name} is lost and {trying}: {error}") from None
                self._wait(min(delay, max(0.0, lost + self._reconnect_timeout - monotonic())))
                delay = min(2 * delay, MAX_DELAY)
                continue
            if lost is not None:
                log.info("%s is back after %.0f s", self._name, monotonic() - lost)
            self.pixel_aspect = capture.pixel_aspect
            return frame, capture.skipped - skipped, lost is not None
        return None

    def close(self) -> None:
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.close()
