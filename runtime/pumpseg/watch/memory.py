"""Keeps the memory of a process of many threads flat over days."""

from __future__ import annotations

import ctypes
import os

_M_ARENA_MAX = -8  # glibc's malloc.h
_ARENAS = 2


def share_arenas() -> bool:
    """Let all threads allocate from two arenas; to be called before there are threads. Returns whether it did.

    By default glibc gives each of the first threads, eight times as many as there are cores, an arena of its own, in
    which freed frames stay. Other C libraries do not, and a number that the user has set (MALLOC_ARENA_MAX) stays.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return False
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS))
    except (AttributeError, OSError, TypeError):
        return False
