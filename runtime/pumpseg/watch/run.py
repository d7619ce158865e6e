"""The watch: all cameras of a configuration in one process, until it is stopped."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Self

from pumpseg.inference.cpu import physical_cores
from pumpseg.inference.providers import PROVIDERS
from pumpseg.segmenter import Segmenter
from pumpseg.video.result import Result
from pumpseg.video.tracking import Tracker
from pumpseg.video.viewers.page_access import PageAddress
from pumpseg.watch.cameras import WatchedCamera
from pumpseg.watch.config import CameraSection, Config
from pumpseg.watch.health import HealthServer, Watched, health
from pumpseg.watch.hours import Schedule
from pumpseg.watch.notify import ServiceManager
from pumpseg.watch.shared_model import SharedModel
from pumpseg.watch.turns import Turns

log = logging.getLogger("pumpseg")

TICK_SECONDS = 1.0
_GPU_TURNS = 2
_JOIN_SECONDS = 15.0


class Watch:
    """Everything that a configuration asks for, from `start` to `close`.

    Attributes: `cameras`, `model`, `health` (HealthServer or None).

    Raises PumpsegError for a model that cannot be opened or an address that cannot be served on.
    """

    def __init__(self, config: Config, manager: ServiceManager | None = None) -> None:
        self._config = config
        self._manager = manager or ServiceManager()
        self._opened = contextlib.ExitStack()
        self._reload = threading.Event()
        self._reloading: threading.Thread | None = None
        self.events: Counter[tuple[str, str]] = Counter()
        turns, threads = plan_turns(config.model.threads, len(config.camera))
        self.model = SharedModel(lambda: open_segmenter(config, threads))
        if PROVIDERS[self.model.segmenter.provider].device:
            turns = min(turns, _GPU_TURNS)
        self._turns = Turns(turns)
        self.cameras = [self._camera(section) for section in config.camera]
        watched = self._watched = Watched(self.cameras, (), self.model, self.events)
        self.health: HealthServer | None = None
        if config.health is not None:
            address = PageAddress.parse(config.health.address)
            self.health = HealthServer(address, watched, config.health.token)
            self._opened.callback(self.health.close)

    def _camera(self, section: CameraSection) -> WatchedCamera:
        schedule = section if section.hours or section.days else self._config.schedule
        return WatchedCamera(
            section,
            self.model,
            self._turns,
            Schedule.parse(schedule.hours, schedule.days),
            _Observer(),
            tracker=Tracker() if section.track else None,
        )

    def run(self, stop: threading.Event, on_tick: Callable[[], None] = lambda: None) -> None:
        """Watch until `stop` is set."""
        for camera in self.cameras:
            camera.start()
        self._manager.ready(self.status())
        while not stop.wait(TICK_SECONDS):
            for camera in self.cameras:
                camera.tick()
            if self._reload.is_set() or (self._config.model.reload and self.model.changed()):
                self._start_reload()
            well, _ = health(self._watched, monotonic())
            if well:
                self._manager.alive(self.status())
            on_tick()
        self._manager.stopping()

    def reload(self) -> None:
        """Open the model file again at the next tick, and take it if it is good."""
        self._reload.set()

    def addresses(self) -> list[str]:
        """Where to look, one line for each server."""
        return [] if self.health is None else [f"health: {self.health.url}healthz"]

    def status(self) -> str:
        """One line for people."""
        figures = [camera.meter.figures() for camera in self.cameras]
        live = sum(one.state == "live" for one in figures)
        return f"{live} of {len(figures)} cameras live, {sum(one.fps for one in figures):.1f} fps"

    def _start_reload(self) -> None:
        if self._reloading is not None and self._reloading.is_alive():
            return
        self._reload.clear()
        # The cameras go on, and the watchdog is fed, while the file is opened and checked.
        self._reloading = threading.Thread(target=self.model.reload, name="pumpseg-reload", daemon=True)
        self._reloading.start()

    def close(self) -> None:
        """Stop the cameras, then everything that takes what they see."""
        for camera in self.cameras:
            camera.stop()
        end = monotonic() + _JOIN_SECONDS
        late = [camera.name for camera in self.cameras if not camera.join(max(0.0, end - monotonic()))]
        if late:
            log.warning("%s did not end in %g s", ", ".join(late), _JOIN_SECONDS)
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Observer:
    def on_result(self, result: Result) -> None:
        pass

    def on_lost(self, reason: str) -> None:
        pass

    def on_back(self) -> None:
        pass


def plan_turns(cores: int | None, cameras: int) -> tuple[int, int]:
    """How many frames are segmented at the same time, and by how many threads each.

    Frames of different cameras have a thread each: no thread waits for another. cores: None for the physical ones.
    """
    cores = cores or physical_cores() or 1
    turns = min(cores, cameras)
    return turns, cores - turns + 1


def open_segmenter(config: Config, threads: int) -> Segmenter:
    """The model of a configuration. Raises what `Segmenter` raises."""
    section = config.model
    return Segmenter(
        section.file,
        provider=section.provider,
        threads=threads,
        threshold=section.threshold,
        tiles=section.tiles,
        allow_spinning=False,
    )
