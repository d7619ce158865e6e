"""How long every stage of a run takes: kept for any number of frames in a fixed amount of memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

_FINEST = 1e-6
_BINS_PER_DOUBLING = 8
_BINS = 36 * _BINS_PER_DOUBLING  # up to 19 hours


@dataclass(frozen=True)
class StageTimes:
    """What one stage took, in milliseconds a frame; median and p95 to within 5%.

    busy: share of the run's time that the stage worked; with several threads of inference it may exceed 1.
    """

    mean: float
    median: float
    p95: float
    longest: float
    busy: float


class Stopwatch:
    """Collects durations of one stage in logarithmic bins, so that memory does not grow with the frames."""

    def __init__(self) -> None:
        self.total = self._longest = 0.0
        self._bins = [0] * _BINS
        self._count = 0

    def add(self, seconds: float) -> None:
        self.total += seconds
        self._longest = max(self._longest, seconds)
        place = math.log2(seconds / _FINEST) * _BINS_PER_DOUBLING if seconds > _FINEST else 0
        self._bins[min(int(place), _BINS - 1)] += 1
        self._count += 1

    def times(self, run_seconds: float) -> StageTimes:
        """The durations so far, of a run that took run_seconds."""
        return StageTimes(
            mean=1000 * self.total / max(1, self._count),
            median=1000 * self._quantile(0.5),
            p95=1000 * self._quantile(0.95),
            longest=1000 * self._longest,
            busy=self.total / run_seconds if run_seconds > 0 else 0.0,
        )

    def _quantile(self, share: float) -> float:
        wanted, passed = share * self._count, 0
        for place, count in enumerate(self._bins):
            passed += count
            if count and passed >= wanted:
                return min(_FINEST * 2 ** ((place + 0.5) / _BINS_PER_DOUBLING), self._longest)
        return 0.0


@dataclass(frozen=True)
class Summary:
    """What a run came to.

    frames, instances: done and found. seconds: from the first frame asked for to the last output closed.
    dropped, reconnects, failed: see `Source`. stages: in the order in which a frame passes them; they overlap,
    so they add up to more than the time a frame takes. latency: from a live frame's arrival until it was
    handed out with its instances, None for files. distinct: instances that a tracker told apart, None without one.
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

    @property
    def fps(self) -> float:
        return self.frames / self.seconds if self.seconds > 0 else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON; times in milliseconds, `seconds` in seconds."""
        return {**asdict(self), "stages": {n: asdict(t) for n, t in self.stages.items()}, "fps": self.fps}

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
        distinct = "" if self.distinct is None else f"; {self.distinct} distinct instances"
        done = f"{self.frames} frames in {self.seconds:.1f} s, {self.fps:.1f} fps{notes}{distinct}"
        return f"{done}; ms a frame: {stages}{latency}"
