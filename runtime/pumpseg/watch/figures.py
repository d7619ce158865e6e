"""How a camera is doing: its state, frame rate, latency and losses."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Literal

from pumpseg.video.result import Result

State = Literal["starting", "live", "lost", "off"]
"""off: outside its hours."""
STATES: tuple[State, ...] = ("starting", "live", "lost", "off")
QUANTILES = (0.5, 0.95, 0.99)

_FPS_SECONDS = 10.0
_LATENCIES = 1000
_RECOVERED = (
    1.2  # times the least rate, at which a camera that was too slow is no more: a rate on the limit is one message
)


@dataclass(frozen=True)
class Figures:
    """A camera's figures at a moment.

    state: see `State`; reason: why it is lost, or too slow to follow objects. frames, dropped, reconnects: since the
    start. fps: of the last ten seconds. latency: seconds from a frame's arrival to its result by quantile, of the last
    thousand frames; empty before the first. age: seconds since the last result, None before the first. instances: in
    the last frame, by class name.
    """

    state: State
    reason: str
    frames: int
    fps: float
    latency: Mapping[float, float]
    dropped: int
    reconnects: int
    age: float | None
    instances: Mapping[str, int]


@dataclass
class Meter:
    """Collects the figures of a camera; one thread writes, any may read.

    clock: in seconds. min_fps: the camera is too slow below it, 0 for no limit.
    """

    clock: Callable[[], float] = monotonic
    min_fps: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _state: State = "starting"
    _reason: str = ""
    _frames: int = 0
    _dropped: int = 0
    _dropped_before: int = 0
    _reconnects: int = 0
    _live_since: float = 0.0
    _slow: bool = False
    _moments: deque[float] = field(default_factory=deque)
    _latencies: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCIES))
    _instances: dict[str, int] = field(default_factory=dict)

    def add(self, result: Result) -> None:
        """Count a result of the connection that is open."""
        now = self.clock()
        instances: dict[str, int] = {}
        for label in result.instances.labels:
            instances[label] = instances.get(label, 0) + 1
        with self._lock:
            if self._state != "live":
                self._reconnects += self._state == "lost" and self._frames > 0
                self._state, self._reason, self._live_since = "live", "", now
            self._frames += 1
            self._dropped = self._dropped_before + result.dropped
            self._instances = instances
            self._moments.append(now)
            self._forget(now)
            rate = (len(self._moments) - 1) / (now - self._moments[0] or math.inf)
            limit = _RECOVERED * self.min_fps if self._slow else self.min_fps
            self._slow = now - self._live_since >= _FPS_SECONDS and rate < limit
            if result.latency is not None:
                self._latencies.append(result.latency)

    def end(self, state: State, reason: str = "") -> None:
        """The connection is closed, and why."""
        with self._lock:
            self._state, self._reason, self._slow = state, reason, False
            self._dropped_before = self._dropped
            self._instances = {}

    @property
    def too_slow(self) -> str:
        """That the camera was below `min_fps` for ten seconds, in words; or ""."""
        return f"less than {self.min_fps:g} frames a second are too few to follow objects" if self._slow else ""

    def figures(self) -> Figures:
        now = self.clock()
        with self._lock:
            last = self._moments[-1] if self._moments else None
            self._forget(now)
            ordered = sorted(self._latencies)
            return Figures(
                self._state,
                self._reason or self.too_slow,
                self._frames,
                len(self._moments) / min(_FPS_SECONDS, now - self._first(now) or 1.0),
                {} if not ordered else {share: quantile(ordered, share) for share in QUANTILES},
                self._dropped,
                self._reconnects,
                None if last is None else now - last,
                dict(self._instances),
            )

    def _first(self, now: float) -> float:
        return self._moments[0] if self._moments else now

    def _forget(self, now: float) -> None:
        while len(self._moments) > 1 and self._moments[0] < now - _FPS_SECONDS:
            self._moments.popleft()


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which a share of some ordered values is: the nearest one of them."""
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]
