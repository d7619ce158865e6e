"""The watch: all cameras of a configuration in one process, until it is stopped."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Self

from pumpseg.inference.threads import plan_turns
from pumpseg.segmenter import Segmenter
from pumpseg.video.result import Result
from pumpseg.video.tracking import Tracker
from pumpseg.video.turns import Turns
from pumpseg.video.viewers.page_access import PageAddress
from pumpseg.watch.camera_events import CameraEvents, Today
from pumpseg.watch.cameras import WatchedCamera
from pumpseg.watch.collect import Collector
from pumpseg.watch.config import CameraSection, CollectSection, Config, rules_of
from pumpseg.watch.event import Event
from pumpseg.watch.health import HealthServer, Watched, health
from pumpseg.watch.hours import Schedule
from pumpseg.watch.notify import ServiceManager
from pumpseg.watch.page import PageCamera, WatchPage
from pumpseg.watch.recent_events import RecentEvents
from pumpseg.watch.shared_model import SharedModel
from pumpseg.watch.sinks.clips import ClipSink
from pumpseg.watch.sinks.event_sink import EventSink, EventSinks
from pumpseg.watch.sinks.home_assistant import StateValue
from pumpseg.watch.sinks.mqtt import Announced, MqttSink
from pumpseg.watch.sinks.open import open_event_sinks
from pumpseg.watch.snapshot import Blur
from pumpseg.watch.state import StateFolder
from pumpseg.zones import Line, Zone

log = logging.getLogger("pumpseg")

TICK_SECONDS = 1.0
_JOIN_SECONDS = 15.0


class Watch:
    """Everything that a configuration asks for, from opening it to `close`.

    Attributes: `cameras`, `model`, `sinks`, `health` (HealthServer or None), `page` (WatchPage or None).

    Raises PumpsegError for a model or a sink that cannot be opened, or an address that cannot be served on.
    """

    def __init__(self, config: Config, manager: ServiceManager | None = None) -> None:
        self._config = config
        self._manager = manager or ServiceManager()
        self._reload = threading.Event()
        self._reloading: threading.Thread | None = None
        self._fired: Counter[tuple[str, str]] = Counter()
        self.health: HealthServer | None = None
        self.page: WatchPage | None = None
        with contextlib.ExitStack() as opened:
            plan = plan_turns(config.model.threads, len(config.camera))
            self.model = SharedModel(lambda: open_segmenter(config, plan.threads))
            self._turns = Turns(plan.workers_on(self.model.segmenter.provider))
            self._folder = opened.enter_context(StateFolder(config.state.folder))
            self.sinks = open_event_sinks(
                config.sinks, config.state.folder, [_announced(config, c) for c in config.camera]
            )
            for sink in self.sinks:
                opened.enter_context(sink)
            self._clips = next((sink for sink in self.sinks if isinstance(sink, ClipSink)), None)
            self._mqtt = [sink for sink in self.sinks if isinstance(sink, MqttSink)]
            self._collector = None if config.collect is None else open_collector(config.collect)
            if self._collector is not None:
                opened.callback(self._collector.close)
            self._recent = RecentEvents(config.state.folder / "recent")
            self._events: list[CameraEvents] = []
            self.cameras: list[WatchedCamera] = []
            for section in config.camera:
                self._add_camera(section, EventSinks([*self.sinks, self._recent]))
            self._watched = Watched(self.cameras, self.sinks, self.model, self._fired)
            self._serve(opened)
            self._opened = opened.pop_all()

    def _add_camera(self, section: CameraSection, sink: EventSink) -> None:
        tracker = Tracker() if section.track else None
        blur = self._config.sinks.blur
        shapes: list[Zone | Line] = [*(zone.made() for zone in section.zone), *(line.made() for line in section.line)]
        events = CameraEvents(
            section.name,
            shapes,
            rules_of(self._config, section),
            sink,
            self._folder,
            tracker=tracker,
            blur=None if blur is None else Blur(blur.kind, blur.classes),
            on_event=self._note_event,
        )
        schedule = section if section.hours or section.days else self._config.schedule
        self._events.append(events)
        self.cameras.append(
            WatchedCamera(
                section,
                self.model,
                self._turns,
                Schedule.parse(schedule.hours, schedule.days),
                _Observer(events, self._show),
                tracker=tracker,
                zones=events.counter,
                ring=None if self._clips is None else self._clips.ring(section.name),
            )
        )

    def _note_event(self, event: Event, result: Result | None) -> None:
        self._fired[event.camera, event.rule] += 1
        if self._collector is not None:
            self._collector.remember(event, result)

    def _show(self, camera: str, result: Result) -> None:
        if self.page is not None:
            self.page.show(camera, result)
        if self._collector is not None:
            self._collector.offer(camera, result, self.model.segmenter.threshold)

    def _serve(self, opened: contextlib.ExitStack) -> None:
        page, health = self._config.page, self._config.health
        if page is not None:
            self.page = WatchPage(
                PageAddress.parse(page.address),
                page.token or self._folder.token(),
                [
                    PageCamera(camera.name, camera.meter, events.today)
                    for camera, events in zip(self.cameras, self._events, strict=True)
                ],
                self._recent,
                self.model,
                self.reload,
                None if self._collector is None else self._collector.mark_wrong,
            )
            opened.callback(self.page.close)
        if health is not None:
            self.health = HealthServer(PageAddress.parse(health.address), self._watched, health.token)
            opened.callback(self.health.close)

    def run(self, stop: threading.Event, on_tick: Callable[[], None] = lambda: None) -> None:
        """Watch until `stop` is set. on_tick: called about once a second."""
        for camera in self.cameras:
            camera.start()
        self._manager.ready(self.status())
        while not stop.wait(TICK_SECONDS):
            self._tick()
            on_tick()
        self._manager.stopping()

    def _tick(self) -> None:
        for camera, events in zip(self.cameras, self._events, strict=True):
            camera.tick()
            events.tick()
            self._publish(camera, events.today())
        if self._reload.is_set() or (self._config.model.reload and self.model.changed()):
            self._start_reload()
        well, _ = health(self._watched, monotonic())
        if well:
            self._manager.alive(self.status())

    def _publish(self, camera: WatchedCamera, today: Today) -> None:
        for sink in self._mqtt:
            live = camera.meter.figures().state == "live"
            sink.set_state(camera.name, connected=live, values=state_values(today))

    def reload(self) -> None:
        """Open the model file again at the next tick, and take it if it is good."""
        self._reload.set()

    def addresses(self) -> list[str]:
        """Where to look, one line for each server."""
        lines = [] if self.page is None else [f"page: {self.page.url}"]
        return lines + ([] if self.health is None else [f"health: {self.health.url}"])

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
        """Stop the cameras, then everything that takes what they see; write down what was counted."""
        for camera in self.cameras:
            camera.stop()
        end = monotonic() + _JOIN_SECONDS
        late = [camera.name for camera in self.cameras if not camera.join(max(0.0, end - monotonic()))]
        if late:
            log.warning("%s did not end in %g s", ", ".join(late), _JOIN_SECONDS)
        for events in self._events:
            events.save(sync=True)
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Observer:
    """Passes a camera's results on to its counts and rules, then to whoever looks. show: called with its name."""

    def __init__(self, events: CameraEvents, show: Callable[[str, Result], None]) -> None:
        self._events, self._show = events, show
        self.on_lost, self.on_back = events.on_lost, events.on_back

    def on_result(self, result: Result) -> None:
        self._events.on_result(result)
        self._show(self._events.camera, result)


def _announced(config: Config, camera: CameraSection) -> Announced:
    """A camera as Home Assistant is told of it; the values are those of `state_values`."""
    values = [StateValue("objects today", total=True)] if camera.track else []
    for zone in camera.zone:
        values += [StateValue(f"{zone.name} count"), StateValue(f"{zone.name} occupancy", "%")]
        values += [StateValue(f"{zone.name} entered", total=True)] if camera.track else []
    for line in camera.line:
        values += [StateValue(f"{line.name} in", total=True), StateValue(f"{line.name} out", total=True)]
    return Announced(camera.name, [rule.name for rule in rules_of(config, camera)], values)


def state_values(today: Today) -> dict[str, float | int | str]:
    """What is published of a camera, by name."""
    values: dict[str, float | int | str] = {"objects today": today.objects}
    if today.counts is None:
        return values
    for zone in today.counts.zones.values():
        values[f"{zone.name} count"] = zone.count
        values[f"{zone.name} occupancy"] = round(100 * zone.occupancy)
        values[f"{zone.name} entered"] = sum(zone.entered.values())
    for line in today.counts.lines.values():
        values[f"{line.name} in"] = sum(line.crossed_in.values())
        values[f"{line.name} out"] = sum(line.crossed_out.values())
    return values


def open_collector(section: CollectSection) -> Collector:
    """The keeper of hard frames. Raises PumpsegError."""
    return Collector(
        section.folder,
        per_hour=section.per_hour,
        near_threshold=section.near_threshold,
        random_share=section.random_share,
        max_frames=section.max_frames,
        max_bytes=1e9 * section.max_gb,
        max_age=24 * 3600.0 * section.max_days,
    )


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
