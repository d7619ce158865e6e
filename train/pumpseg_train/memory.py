"""How this process allocates memory."""

import ctypes
import os

# glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Reuse freed memory instead of returning it to the system; to be called before there are threads.

    TensorFlow allocates and frees the tensors of every operation. By default glibc gets those that are large from the
    system each time, whose clearing of their pages takes a third of a training step's processor time
    (docs/training.md). Other C libraries stay as they are, and so does what the user has set (MALLOC_...).
    Returns whether it did.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return all([mallopt(_M_MMAP_MAX, 0), mallopt(_M_TRIM_THRESHOLD, _NEVER), mallopt(_M_ARENA_MAX, 1)])
