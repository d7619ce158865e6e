"""Progress on stderr: one line rewritten on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from time import monotonic
from typing import Self, TextIO

from pumpseg.batch.run import BatchObserver, Outcome
from pumpseg.plural import counted
from pumpseg.video.sources.files import InputFile

_TERMINAL_SECONDS = 0.1
_PLAIN_SECONDS = 5.0

Clock = Callable[[], float]


class _Line:
    """A line of progress, printed as often as a reader or a log can use it; gone when its with statement is left."""

    def __init__(self, output: TextIO | None = None, clock: Clock = monotonic) -> None:
        self._output = output or sys.stderr
        self._terminal = self._output.isatty()
        self._clock = clock
        self._start = self._shown = clock()
        self._width = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the rewritten line from the terminal, so that the next output starts on a clean one."""
        if self._width:
            self._write("\r" + " " * self._width + "\r")
            self._width = 0

    def show(self, text: Callable[[], str]) -> None:
        now = self._clock()
        if now - self._shown < (_TERMINAL_SECONDS if self._terminal else _PLAIN_SECONDS):
            return
        self._shown = now
        line = text()
        if self._terminal:
            self._write("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            self._write(line + "\n")

    def _write(self, text: str) -> None:
        self._output.write(text)
        self._output.flush()


class Progress(_Line):
    """Shows how many of `total` frames are done (None: unknown) and how fast."""

    def __init__(self, total: int | None, output: TextIO | None = None, clock: Clock = monotonic) -> None:
        super().__init__(output, clock)
        self._total = total

    def update(self, done: int) -> None:
        self.show(lambda: frames_line(done, self._total, self._clock() - self._start))


class BatchProgress(_Line, BatchObserver):
    """Shows how many of `total` inputs are done, and how far one of those in progress is."""

    def __init__(self, total: int, output: TextIO | None = None, clock: Clock = monotonic) -> None:
        super().__init__(output, clock)
        self._total = total
        self._lock = threading.Lock()
        self._ended = 0
        self._running: dict[str, tuple[int | None, float]] = {}

    def start(self, file: InputFile, frames: int | None) -> None:
        with self._lock:
            self._running[str(file.path)] = (frames, self._clock())

    def frame(self, file: InputFile, done: int) -> None:
        with self._lock:
            frames, start = self._running[str(file.path)]
            self.show(lambda: f"{self._inputs()}; {file.path}: {frames_line(done, frames, self._clock() - start)}")

    def end(self, outcome: Outcome) -> None:
        with self._lock:
            self._running.pop(str(outcome.path), None)
            self._ended += 1
            self.show(self._inputs)

    def _inputs(self) -> str:
        return f"{self._ended} of {counted(self._total, 'input')}"


def frames_line(done: int, total: int | None, seconds: float) -> str:
    """How many frames of how many are done, how fast, and how much time is left."""
    fps = done / seconds if seconds > 0 else 0.0
    if not total:
        return f"frame {done}, {fps:.1f} fps"
    left = (total - done) / fps if fps > 0 else 0.0
    minutes, rest = divmod(round(max(0.0, left)), 60)
    return f"frame {done} of {total} ({done / total:.0%}), {fps:.1f} fps, {minutes}:{rest:02} left"
