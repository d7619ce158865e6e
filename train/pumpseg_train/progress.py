"""Progress of long work: silent by default, bars with the time left on a terminal, plain lines elsewhere."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

Advance = Callable[[int], None]

_PLAIN_SECONDS = 10.0


class Progress:
    """Shows nothing: the default of library functions."""

    def note(self, text: str) -> None:
        """One line worth knowing."""

    @contextmanager
    def stage(self, what: str, total: int | None, unit: str, start: int = 0) -> Iterator[Advance]:
        """A stretch of work of `total` units (None: unknown), of which `start` are done already.

        Yields the function to call, from any thread, with the number of units done since the last call.
        """
        yield lambda count: None


class StderrProgress(Progress):
    """Bars that tqdm draws on a terminal, a line every ten seconds elsewhere."""

    def note(self, text: str) -> None:
        tqdm.write(text, file=sys.stderr)

    @contextmanager
    def stage(self, what: str, total: int | None, unit: str, start: int = 0) -> Iterator[Advance]:
        lock = threading.Lock()
        if sys.stderr.isatty():
            with tqdm(total=total, desc=what, unit=unit, unit_scale=unit == "B", initial=start, leave=False) as bar:

                def draw(count: int) -> None:
                    with lock:
                        bar.update(count)

                yield draw
            return
        done, begun = start, time.monotonic()
        shown = begun

        def say(count: int) -> None:
            nonlocal done, shown
            with lock:
                done += count
                now = time.monotonic()
                if now - shown >= _PLAIN_SECONDS:
                    shown = now
                    if total:
                        left = (total - done) * (now - begun) / max(done - start, 1)
                        amount = f"{_amount(done, unit)} of {_amount(total, unit)} {_shown(unit)}"
                        self.note(f"{what}: {amount}, {tqdm.format_interval(left)} left")
                    else:
                        self.note(f"{what}: {_amount(done, unit)} {_shown(unit)}")

        yield say


def _amount(count: int, unit: str) -> str:
    return f"{count / 1e6:.1f}" if unit == "B" else str(count)


def _shown(unit: str) -> str:
    return "MB" if unit == "B" else unit
