"""One watched camera: opened in its hours, reopened when it is lost, its results passed on; a thread for each."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from datetime import datetime
from time import monotonic, perf_counter
from typing import Protocol

from pumpseg.errors import SourceError, first_line
from pumpseg.redaction import redacted
from pumpseg.video.pipeline import stream
from pumpseg.video.result import DEFAULT_STYLE, Result, Style
from pumpseg.video.sources.camera import Camera
from pumpseg.video.sources.capture import CameraSettings, Capture
from pumpseg.video.sources.frame_source import Source
from pumpseg.video.sources.open import open_source
from pumpseg.video.sources.packet_ring import PacketRing
from pumpseg.video.sources.ring_capture import RingCapture
from pumpseg.video.tracking import MIN_RATE, Tracker
from pumpseg.video.turns import Turns
from pumpseg.watch.clip_capture import ClipCapture
from pumpseg.watch.config import CameraSection
from pumpseg.watch.figures import Meter
from pumpseg.watch.hours import Schedule
from pumpseg.watch.shared_model import SharedModel
from pumpseg.watch.watched_source import WatchedSource
from pumpseg.zones import ZoneCounter

log = logging.getLogger("pumpseg")

FIRST_DELAY = 0.5
MAX_DELAY = 30.0
STEADY_SECONDS = 60.0
"""A camera that was lost after so long is reopened after FIRST_DELAY again."""
STUCK_SECONDS = 90.0
"""Opening a camera, waiting for its packets and for the next try are each much shorter."""
_OFF_SECONDS = 0.5


class CameraObserver(Protocol):
    """What becomes of a camera's results; called in the camera's thread."""

    def on_result(self, result: Result) -> None: ...

    def on_lost(self, reason: str) -> None:
        """The camera could not be opened, or its frames ended. Called once, until it is back."""

    def on_back(self) -> None:
        """The camera delivers frames again; called before the first of them."""


class WatchedCamera:
    """Watches one camera from `start` until `stop`, whatever it does.

    It is lost when it cannot be opened, ends, or delivers nothing for ten seconds, and reopened with exponential
    backoff. Its tracker and its counts of zones outlive a loss. Errors of observers and of the model are logged and
    treated as a loss.

    Attributes: `name`; `meter`; `ticked`, when its thread was last seen to go on, on the clock of `time.monotonic`;
    `stuck_after`, seconds after which it should have been seen again.
    """

    def __init__(
        self,
        section: CameraSection,
        model: SharedModel,
        turns: Turns,
        schedule: Schedule,
        observer: CameraObserver,
        *,
        tracker: Tracker | None = None,
        zones: ZoneCounter | None = None,
        ring: PacketRing | None = None,
        style: Style = DEFAULT_STYLE,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        self.name = section.name
        self.meter = Meter(min_fps=0.0 if tracker is None else MIN_RATE)
        self.ticked = monotonic()
        self.stuck_after = STUCK_SECONDS + (2 / section.fps if section.fps else 0.0)
        self._section, self._model, self._turns, self._schedule = section, model, turns, schedule
        self._observer, self._tracker, self._zones, self._ring = observer, tracker, zones, ring
        self._style = style
        self._now = now
        self._first_time = perf_counter()
        self._stop = threading.Event()
        self._end_stream = threading.Event()
        self._lost = False
        self._too_slow = ""
        self._thread = threading.Thread(target=self._run, name=f"pumpseg-watch-{self.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def tick(self) -> None:
        """Close the camera when its hours are over; to be called about once a second."""
        if not self._schedule.is_on(self._now()):
            self._end_stream.set()

    def stop(self) -> None:
        """End the thread; `join` waits for it."""
        self._stop.set()
        self._end_stream.set()

    def join(self, timeout: float | None = None) -> bool:
        """Whether the thread has ended, after at most `timeout` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        delay = FIRST_DELAY
        while not self._stop.is_set():
            self.ticked = monotonic()
            if not self._schedule.is_on(self._now()):
                self.meter.end("off")
                self._stop.wait(_OFF_SECONDS)
                continue
            self._end_stream.clear()
            if self._stop.is_set():
                return
            start = monotonic()
            try:
                self._watch()
                continue
            except SourceError as error:
                reason = first_line(error)
            except Exception as error:
                log.exception("%s: watching it failed; it is tried again", self.name)
                reason = first_line(error)
            self._note_lost(reason)
            delay = FIRST_DELAY if monotonic() - start > STEADY_SECONDS else delay
            self._stop.wait(delay)
            delay = min(2 * delay, MAX_DELAY)

    def _watch(self) -> None:
        """Pass on results until the camera's hours are over or it is stopped. Raises SourceError when it is lost."""
        camera = open_camera(self._section, self._ring)
        source = WatchedSource(
            camera,
            self._turns,
            first_time=self._first_time,
            rotate=self._section.rotate,
            mask_out=self._section.mask_out,
            fps=self._section.fps,
        )
        results = stream(
            source,
            self._model.infer,
            tracker=self._tracker,
            zones=self._zones,
            style=self._style,
            stop=self._end_stream,
        )
        # A stream that was never iterated does not close its source.
        with source, contextlib.closing(results):
            for result in results:
                self.ticked = monotonic()
                if self._lost:
                    self._lost = False
                    log.info("%s is back", self.name)
                    self._observer.on_back()
                self.meter.add(result)
                self._note_slow(self.meter.too_slow)
                self._observer.on_result(result)

    def _note_slow(self, reason: str) -> None:
        if reason and not self._too_slow:
            log.warning(
                "%s: %s, so nothing is counted: fewer cameras, a faster model, or track = false", self.name, reason
            )
        elif self._too_slow and not reason:
            log.info("%s: fast enough to follow objects again", self.name)
        self._too_slow = reason

    def _note_lost(self, reason: str) -> None:
        self.meter.end("lost", reason)
        if not self._lost:
            self._lost = True
            log.warning("%s is lost: %s", self.name, reason)
            self._observer.on_lost(reason)


def open_camera(section: CameraSection, ring: PacketRing | None = None) -> Camera:
    """The source of a camera; a video is played over and over. ring: keeps its last seconds. Raises SourceError."""
    settings = CameraSettings(section.pixels)

    def opened() -> Source:
        return open_source(section.source, camera=settings, reconnect_timeout=0, ring=ring)

    def played() -> Capture:
        clip = ClipCapture(source, opened)
        return clip if ring is None else RingCapture(clip, ring)

    source = opened()
    if isinstance(source, Camera):
        return source
    if not source.inputs and section.source != "demo":
        source.close()
        raise SourceError(f"{redacted(section.source)} is not a camera, a live stream or a video file")
    return Camera(section.name, played, reconnect_timeout=0)
