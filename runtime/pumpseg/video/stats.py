"""How long every stage of a run takes: kept for any number of frames in a fixed amount of memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from pumpseg.plural import counted
from pumpseg.video.result import Result
from pumpseg.video.sources.frame_source import Source
from pumpseg.video.tracking import Tracker
from pumpseg.zones.counter import ZoneCounter
from pumpseg.zones.counts import ZoneCounts

_FINEST = 1e-6
_BINS_PER_DOUBLING = 8
_BINS = 36 * _BINS_PER_DOUBLING  # up to 19 hours


def stage_names(*, live: bool, tracked: bool, zones: bool = False) -> tuple[str, ...]:
    """The stages of a frame, in order: "wait" is for a live source what "decode" is for a file."""
    counted = [*["track"] * tracked, *["zones"] * zones]
    return ("wait" if live else "decode", "letterbox", "session", "select", *counted, "draw", "write")


@dataclass(frozen=True)
class StageTimes:
    """What one stage took, in milliseconds a frame; median and p95 to within 5%.

    busy: share of the run's time that the stage worked; with several inference threads it may exceed 1.
    """

    mean: float
    median: float
    p95: float
    max: float
    busy: float


class Stopwatch:
    """Collects durations of one stage in logarithmic bins, so that memory does not grow with the frames."""

    def __init__(self) -> None:
        self._total = self._max = self._last = 0.0
        self._bins = [0] * _BINS
        self._count = 0

    def add(self, seconds: float) -> None:
        self._count_in_bin(seconds, 1)
        self._max = max(self._max, seconds)
        self._last = seconds

    def extend_last(self, seconds: float) -> None:
        """Lengthen the last duration, if there is one."""
        if self._count:
            self._count_in_bin(self._last, -1)
            self.add(self._last + seconds)

    def times(self, run_seconds: float) -> StageTimes:
        """The durations so far, of a run that took run_seconds."""
        return StageTimes(
            mean=1000 * self._total / max(1, self._count),
            median=1000 * self._quantile(0.5),
            p95=1000 * self._quantile(0.95),
            max=1000 * self._max,
            busy=self._total / run_seconds if run_seconds > 0 else 0.0,
        )

    def _count_in_bin(self, seconds: float, times: int) -> None:
        place = math.log2(seconds / _FINEST) * _BINS_PER_DOUBLING if seconds > _FINEST else 0
        self._bins[min(int(place), _BINS - 1)] += times
        self._count += times
        self._total += times * seconds

    def _quantile(self, share: float) -> float:
        wanted, passed = share * self._count, 0
        for place, count in enumerate(self._bins):
            passed += count
            if count and passed >= wanted:
                return min(_FINEST * 2 ** ((place + 0.5) / _BINS_PER_DOUBLING), self._max)
        return 0.0


@dataclass(frozen=True)
class Summary:
    """Counts and times of a run.

    frames: done. instances: in all of them. seconds: from the first frame asked for to the last output completed.
    dropped, reconnects, failed: see `Source`. stages: in the order in which a frame passes them; they overlap,
    so they add up to more than the time a frame takes; completing the outputs counts as the last frame's "write".
    latency: from a live frame's arrival to its result, None for files. distinct: instances by track id, None without
    a tracker. counts: what zones and lines counted, see `ZoneCounts.totals`; None without any.
    """

    frames: int
    instances: int
    seconds: float
    dropped: int
    reconnects: int
    failed: int
    interrupted: bool
    stages: Mapping[str, StageTimes]
    latency: StageTimes | None = None
    distinct: int | None = None
    counts: Mapping[str, Any] | None = None

    @property
    def fps(self) -> float:
        return self.frames / self.seconds if self.seconds > 0 else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON; times in milliseconds, `seconds` in seconds."""
        return {**asdict(self), "fps": self.fps}

    def __str__(self) -> str:
        notes = "".join(
            f", {count} {what}"
            for count, what in (
                (self.dropped, "dropped"),
                (self.reconnects, "reconnects" if self.reconnects > 1 else "reconnect"),
                (self.failed, "inputs left out" if self.failed > 1 else "input left out"),
            )
            if count
        )
        stages = ", ".join(f"{name} {times.mean:.1f}" for name, times in self.stages.items())
        latency = f"; latency {self.latency.median:.0f}" if self.latency else ""
        distinct = "" if self.distinct is None else f"; {counted(self.distinct, 'distinct instance')}"
        zones = "".join(f"; {text}" for text in _counted(self.counts or {}))
        done = f"{counted(self.frames, 'frame')} in {self.seconds:.1f} s, {self.fps:.1f} fps{notes}{distinct}{zones}"
        return f"{done}; ms a frame: {stages}{latency}"


def _counted(totals: Mapping[str, Any]) -> Iterator[str]:
    """What zones and lines counted, in words."""
    for name, zone in totals.get("zones", {}).items():
        moved = [f"{sum(zone[verb].values())} {verb}" for verb in ("entered", "left") if verb in zone]
        covered = f"{zone['mean_occupancy']:.1%} covered on average"
        yield f"{name}: at most {zone['max_count']} at once, {', '.join([*moved, covered])}"
    for name, line in totals.get("lines", {}).items():
        yield f"{name}: {sum(line['in'].values())} in, {sum(line['out'].values())} out"


class RunMeter:
    """Counts and times the results of a run, which starts when the meter is made.

    Attributes: `start`, on the `time.perf_counter` clock; `frames`, counted so far.
    """

    def __init__(self, source: Source, tracker: Tracker | None, zones: ZoneCounter | None = None) -> None:
        self.start = perf_counter()
        self.frames = self._instances = 0
        self._source, self._tracker = source, tracker
        names = stage_names(live=source.live, tracked=tracker is not None, zones=zones is not None)
        self._stages = {name: Stopwatch() for name in names}
        self._counts: ZoneCounts | None = None
        self._latency = Stopwatch()

    def add(self, result: Result) -> None:
        self.frames += 1
        self._instances += len(result.instances)
        for name, watch in self._stages.items():
            watch.add(result.stage_seconds[name])
        self._counts = result.counts
        if result.latency is not None:
            self._latency.add(result.latency)

    def add_completing(self, seconds: float) -> None:
        """Count the time that completing the outputs took."""
        self._stages["write"].extend_last(seconds)

    def summary(self, *, interrupted: bool) -> Summary:
        seconds = perf_counter() - self.start
        return Summary(
            frames=self.frames,
            instances=self._instances,
            seconds=seconds,
            dropped=self._source.dropped,
            reconnects=self._source.reconnects,
            failed=self._source.failed,
            interrupted=interrupted,
            stages={name: watch.times(seconds) for name, watch in self._stages.items()},
            latency=self._latency.times(seconds) if self._source.live else None,
            distinct=None if self._tracker is None else self._tracker.count,
            counts=None if self._counts is None else self._counts.totals(),
        )
