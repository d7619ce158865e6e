"""Progress on stderr: one line rewritten on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import monotonic
from typing import TextIO

_TERMINAL_SECONDS = 0.1
_PLAIN_SECONDS = 5.0


class Progress:
    """Reports how many of `total` frames are done (None: not known) and how fast."""

    def __init__(self, total: int | None, output: TextIO | None = None, clock: Callable[[], float] = monotonic) -> None:
        self._total = total
        self._output = output or sys.stderr
        self._terminal = self._output.isatty()
        self._clock = clock
        self._start = self._shown = clock()
        self._width = 0

    def update(self, done: int) -> None:
        now = self._clock()
        if now - self._shown < (_TERMINAL_SECONDS if self._terminal else _PLAIN_SECONDS):
            return
        self._shown = now
        line = self._line(done, now - self._start)
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

    def _line(self, done: int, seconds: float) -> str:
        fps = done / seconds if seconds > 0 else 0.0
        if not self._total:
            return f"frame {done}, {fps:.1f} fps"
        left = (self._total - done) / fps if fps > 0 else 0.0
        minutes, rest = divmod(round(max(0.0, left)), 60)
        share = f"{done} of {self._total} ({done / self._total:.0%})"
        return f"frame {share}, {fps:.1f} fps, {minutes}:{rest:02} left"
