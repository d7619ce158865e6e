"""How long work reports its progress: silent by default, bars on a terminal, plain lines elsewhere."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

Advance = Callable[[int], None]

_PLAIN_SECONDS = 10.0


class Progress:
    """Reports nothing: the default of library functions."""

    def note(self, text: str) -> None:
        """One line worth knowing."""

    @contextmanager
    def stage(self, what: str, total: int | None, unit: str, start: int = 0) -> Iterator[Advance]:
        """A stretch of work of `total` units (None: unknown), of which `start` are done already.

        Yields the function to call, from any thread, with the number of units done since.
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
        done, shown = start, time.monotonic()

        def say(count: int) -> None:
            nonlocal done, shown
            with lock:
                done += count
                if time.monotonic() - shown >= _PLAIN_SECONDS:
                    shown = time.monotonic()
                    self.note(f"{what}: {_amount(done, unit)}" + (f" of {_amount(total, unit)}" if total else ""))

        yield say


def _amount(count: int, unit: str) -> str:
    return f"{count / 1e6:.1f} MB" if unit == "B" else f"{count} {unit}"
