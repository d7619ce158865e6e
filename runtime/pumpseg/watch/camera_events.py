"""What becomes of a camera's results: counts by zone and line, rules that fire, events; and today's totals."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from time import monotonic
from typing import Any

from pumpseg.errors import OptionError, SinkError
from pumpseg.instances import Instances
from pumpseg.video.result import Result
from pumpseg.video.tracking import Tracker
from pumpseg.watch.event import Event, new_event_id
from pumpseg.watch.rule_evaluator import Firing, NamedRule, RuleEvaluator
from pumpseg.watch.sinks.event_sink import EventSink
from pumpseg.watch.snapshot import Blur, take_snapshot
from pumpseg.watch.state import StateFolder
from pumpseg.zones import Line, Zone, ZoneCounter, ZoneCounts

log = logging.getLogger("pumpseg")

SAVE_SECONDS = 10.0
"""Means and maxima, which change with every frame, are saved so often; every crossing and event at once."""


@dataclass(frozen=True)
class Today:
    """A camera's totals since midnight. counts: of the last frame, None before the first. objects: with track ids.
    events: by rule. lost: whether the camera is lost.
    """

    counts: ZoneCounts | None
    objects: int
    events: Mapping[str, int]
    lost: bool


class DailyCounter(ZoneCounter):
    """A counter whose totals begin anew at midnight. begin_day: called before each frame. lock: held during each."""

    def __init__(
        self,
        shapes: Sequence[Zone | Line],
        *,
        state: Mapping[str, Any] | None,
        begin_day: Callable[[], None],
        lock: threading.RLock,
    ) -> None:
        super().__init__(shapes, state=state)
        self._begin_day, self._lock = begin_day, lock

    def update(self, instances: Instances, time: float) -> ZoneCounts:
        with self._lock:
            self._begin_day()
            return super().update(instances, time)


class CameraEvents:
    """Counts, decides and reports for one camera; restores what it had counted before a restart.

    The camera's stream must have its `counter`. Rules are decided before events are sent, and saved in between: an
    event that no sink has accepted may be lost with the process, and none is sent twice. on_event: called with each
    event after the sinks.
    clock: in seconds, monotonic; now: local time.
    """

    def __init__(
        self,
        camera: str,
        shapes: Sequence[Zone | Line],
        rules: Sequence[NamedRule],
        sink: EventSink,
        folder: StateFolder,
        *,
        tracker: Tracker | None = None,
        blur: Blur | None = None,
        on_event: Callable[[Event, Result | None], None] = lambda event, result: None,
        clock: Callable[[], float] = monotonic,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        self.camera = camera
        self._sink, self._folder, self._tracker, self._blur = sink, folder, tracker, blur
        self._on_event, self._clock, self._now = on_event, clock, now
        self._lock = threading.RLock()
        self._lost = False
        self._counts: ZoneCounts | None = None
        state = folder.load(camera)
        try:
            self._restore(shapes, rules, state)
        except (OptionError, KeyError, TypeError, ValueError, AttributeError) as error:
            folder.set_aside(camera, error)
            self._restore(shapes, rules, {})
        self._saved_at = self._clock()

    def _restore(self, shapes: Sequence[Zone | Line], rules: Sequence[NamedRule], state: Mapping[str, Any]) -> None:
        self.counter = DailyCounter(shapes, state=state.get("zones"), begin_day=self._begin_day, lock=self._lock)
        self._rules = RuleEvaluator(rules, state=state.get("rules"), now=self._clock())
        self._day = date.fromisoformat(state["day"]) if "day" in state else self._now().date()
        self._events = Counter({str(rule): int(count) for rule, count in state.get("events", {}).items()})
        self._before_today = int(state.get("track_ids_before_today", 0))
        if self._tracker is not None:
            # Ids go on counting: no two objects have the same one, before and after a restart.
            self._tracker.count = max(self._tracker.count, int(state.get("track_ids", 0)))
        self._totals: object = None

    def on_result(self, result: Result) -> None:
        """Decide and report what a result of the camera's stream means."""
        with self._lock:
            self._lost = False
            counts = self._counts = result.counts
            assert counts is not None
            firings = self._rules.evaluate(self._clock(), counts)
            totals = self._changing_totals(counts)
            if firings or totals != self._totals or self._clock() - self._saved_at > SAVE_SECONDS:
                self._totals = totals
                self._events.update(firing.rule for firing in firings)
                self.save()
            self._report(firings, result)

    def on_lost(self, reason: str) -> None:
        with self._lock:
            self._lost, self._counts = True, None
        self.tick()

    def on_back(self) -> None:
        """The first frame says so to the rules."""

    def tick(self) -> None:
        """To be called about once a second: decides rules about a camera that is lost, and begins a new day."""
        with self._lock:
            self._begin_day()
            if not self._lost:
                return
            firings = self._rules.evaluate(self._clock(), None)
            if firings:
                self._events.update(firing.rule for firing in firings)
                self.save()
                self._report(firings, None)

    def today(self) -> Today:
        with self._lock:
            objects = 0 if self._tracker is None else self._tracker.count - self._before_today
            return Today(self._counts, objects, dict(self._events), self._lost)

    def save(self, *, sync: bool = False) -> None:
        """Write down what was counted. A failure is logged: the watch goes on."""
        with self._lock:
            self._saved_at = self._clock()
            state = {
                "day": self._day.isoformat(),
                "zones": self.counter.state(),
                "rules": self._rules.state(),
                "events": dict(self._events),
                "track_ids": 0 if self._tracker is None else self._tracker.count,
                "track_ids_before_today": self._before_today,
            }
            try:
                self._folder.save(self.camera, state, sync=sync)
            except SinkError as error:
                log.error("%s: what was counted cannot be saved: %s", self.camera, error)

    def _begin_day(self) -> None:
        day = self._now().date()
        if day == self._day:
            return
        self._day = day
        self.counter.reset()
        self._events.clear()
        self._before_today = 0 if self._tracker is None else self._tracker.count
        self.save()

    def _changing_totals(self, counts: ZoneCounts) -> object:
        """What must not be lost: it changes when somebody enters, leaves, crosses or is new."""
        zones = [(zone.entered, zone.left) for zone in counts.zones.values()]
        lines = [(line.crossed_in, line.crossed_out) for line in counts.lines.values()]
        return zones, lines, 0 if self._tracker is None else self._tracker.count

    def _report(self, firings: Sequence[Firing], result: Result | None) -> None:
        if not firings:
            return
        age = 0.0 if result is None or result.latency is None else result.latency
        moment = datetime.now(UTC) - timedelta(seconds=age)
        snapshot = blurred = None
        if result is not None:
            snapshot = take_snapshot(result)
            blurred = None if self._blur is None else take_snapshot(result, self._blur)
        for firing in firings:
            event = Event(
                new_event_id(),
                moment,
                self.camera,
                firing.rule,
                firing.values,
                firing.track_ids,
                snapshot=snapshot,
                blurred_snapshot=blurred,
            )
            log.info("%s: %s %s", self.camera, firing.rule, dict(firing.values))
            self._sink.send(event)
            self._on_event(event, result)
