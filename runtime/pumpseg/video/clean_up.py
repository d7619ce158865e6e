"""Ends what a program dropped without closing it: never in the thread of Python's garbage collector."""

from __future__ import annotations

import _thread
import contextlib
import gc
import sys
from collections.abc import Callable
from typing import Any

_collecting_thread: int | None = None


def clean_up(action: Callable[[], None]) -> None:
    """Run an action that waits for threads: now, or in a thread of its own while the garbage is collected.

    The collector interrupts whichever thread allocates, which may hold what those threads wait for. At the end of the
    interpreter nothing is run: its threads have stopped.
    """
    if sys.is_finalizing():
        return
    if _collecting_thread != _thread.get_ident():
        action()
        return
    # threading.Thread takes locks that the interrupted thread may hold.
    with contextlib.suppress(RuntimeError):  # the interpreter is about to end
        _thread.start_new_thread(action, ())


def _note_collection(phase: str, _info: dict[str, Any]) -> None:
    global _collecting_thread
    _collecting_thread = _thread.get_ident() if phase == "start" else None


gc.callbacks.append(_note_collection)
