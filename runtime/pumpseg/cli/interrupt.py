"""Ctrl-C, also while packages are imported."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType

INTERRUPTED = 130
_IMPORTS = "<frozen importlib"


def interrupt_handler(program: str) -> Callable[[int, FrameType | None], None]:
    """A handler of signals that raises KeyboardInterrupt, and during an import ends the process with one line.

    A KeyboardInterrupt inside an import would be swallowed by Python's own locks, turned into an ImportError by
    packages written in C++, or printed by them.
    """

    def handle(_number: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code.co_filename.startswith(_IMPORTS):
                _exit_now(program)
            frame = frame.f_back
        raise KeyboardInterrupt

    return handle


@contextlib.contextmanager
def handle_interrupts(program: str) -> Iterator[None]:
    """Handle Ctrl-C with `interrupt_handler`, unless whoever started this ignores or handles it."""
    try:
        mine = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if mine:
            signal.signal(signal.SIGINT, interrupt_handler(program))
    except ValueError:  # not the main thread
        mine = False
    try:
        yield
    finally:
        if mine:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _exit_now(program: str) -> None:
    # Nothing has its final name before it is complete, so ending here loses nothing that kill -9 would keep.
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        os.write(2, f"{program}: interrupted\n".encode())
    os._exit(INTERRUPTED)
