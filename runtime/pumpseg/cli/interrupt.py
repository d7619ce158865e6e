"""Ctrl-C, also while packages are imported.

Little is imported here: until the handler is there, Ctrl-C is a traceback.
"""

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

INTERRUPTED = 130
_IMPORTS = "<frozen importlib"


def interrupt_handler(program: str) -> "Callable[[int, FrameType | None], None]":
    """A handler of signals that raises KeyboardInterrupt, and during an import ends the process with one line.

    A KeyboardInterrupt inside an import would be swallowed by Python's own locks, turned into an ImportError by
    packages written in C++, or printed by them. An import that already runs when this is called is that of a program
    which calls the command; it does not count.
    """
    outer = len(_stack(sys._getframe(1).f_back))

    def handle(_number: int, frame: "FrameType | None") -> None:
        files = _stack(frame)
        if any(file.startswith(_IMPORTS) for file in files[: max(0, len(files) - outer)]):
            _exit_now(program)
        raise KeyboardInterrupt

    return handle


def _stack(frame: "FrameType | None") -> list[str]:
    """The files of the code that a frame and those below it run, from the top."""
    files = []
    while frame is not None:
        files.append(frame.f_code.co_filename)
        frame = frame.f_back
    return files


class InterruptsHandled:
    """Ctrl-C is handled by `interrupt_handler` inside a with statement, unless whoever started this ignores it."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._mine = False

    def __enter__(self) -> None:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            try:
                signal.signal(signal.SIGINT, interrupt_handler(self._program))
                self._mine = True
            except ValueError:  # not the main thread
                pass

    def __exit__(self, *_: object) -> None:
        if self._mine:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _exit_now(program: str) -> None:
    # Nothing has its final name before it is complete, so ending here loses nothing that kill -9 would keep.
    try:
        os.write(2, f"{program}: interrupted\n".encode())
        sys.stdout.flush()
    finally:
        os._exit(INTERRUPTED)
