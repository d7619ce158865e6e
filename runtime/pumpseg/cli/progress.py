"""Progress on stderr: one line rewritten on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from time import monotonic
from typing import TextIO

_TERMINAL_SECONDS = 0.1
_PLAIN_SECONDS = 5.0

Clock = Callable[[], float]


class _Line:
    """Shows a line now and then: as often as somebody who looks at it, or a log, can use it."""

    def __init__(self, output: TextIO | None, clock: Clock) -> None:
        self._output = output or sys.stderr
        self._terminal = self._output.isatty()
        self._clock = clock
        self._shown = clock()
        self._width = 0

    def show(self, text: Callable[[], str]) -> None:
        now = self._clock()
        if now - self._shown < (_TERMINAL_SECONDS if self._terminal else _PLAIN_SECONDS):
            return
        self._shown = now
        line = text()
        if self._terminal:
            self._output.write("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            self._output.write(line + "\n")
        self._output.flush()

    def clear(self) -> None:
        """Take the rewritten line off the terminal, so that what follows starts on a clean one."""
        if self._width:
            self._output.write("\r" + " " * self._width + "\r")
            self._output.flush()
            self._width = 0


class Progress:
    """Reports how many of `total` frames are done (None: not known) and how fast."""

    def __init__(self, total: int | None, output: TextIO | None = None, clock: Clock = monotonic) -> None:
        self._total = total
        self._line = _Line(output, clock)
        self._clock = clock
        self._start = clock()

    def update(self, done: int) -> None:
        self._line.show(lambda: frames_line(done, self._total, self._clock() - self._start))

    def clear(self) -> None:
        self._line.clear()


class BatchProgress:
    """Reports how many of `total` inputs are done, and how far one of those under way is. Jobs may share it."""

    def __init__(self, total: int, output: TextIO | None = None, clock: Clock = monotonic) -> None:
        self._total = total
        self._line = _Line(output, clock)
        self._clock = clock
        self._lock = threading.Lock()
        self._ended = 0
        self._running: dict[str, tuple[int | None, float]] = {}

    def start(self, name: str, frames: int | None) -> None:
        with self._lock:
            self._running[name] = (frames, self._clock())

    def frame(self, name: str, done: int) -> None:
        with self._lock:
            frames, start = self._running[name]
            self._line.show(lambda: f"{self._inputs()}; {name}: {frames_line(done, frames, self._clock() - start)}")

    def end(self, name: str) -> None:
        with self._lock:
            self._running.pop(name, None)
            self._ended += 1
            self._line.show(self._inputs)

    def clear(self) -> None:
        self._line.clear()

    def _inputs(self) -> str:
        return f"{self._ended} of {self._total} inputs"


def frames_line(done: int, total: int | None, seconds: float) -> str:
    """How many frames of how many are done, how fast, and how long the rest will take."""
    fps = done / seconds if seconds > 0 else 0.0
    if not total:
        return f"frame {done}, {fps:.1f} fps"
    left = (total - done) / fps if fps > 0 else 0.0
    minutes, rest = divmod(round(max(0.0, left)), 60)
    return f"frame {done} of {total} ({done / total:.0%}), {fps:.1f} fps, {minutes}:{rest:02} left"
