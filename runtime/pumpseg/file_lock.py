"""Locks that the system releases when their process ends, however it ends."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path


def lock_file(path: Path, content: str = "") -> int | None:
    """Make a file and lock it; None while another process, or another call in this one, has the lock.

    content: written into the file. Returns the open file, whose closing releases the lock. Raises OSError.
    """
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _lock(file):
                os.close(file)
                return None
            if _is_at(file, path):
                if content:
                    os.truncate(file, 0)
                    os.write(file, content.encode(errors="backslashreplace"))
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # its owner has just removed or renamed it


def make_locked_folder(path: Path) -> int | None:
    """Make a folder and lock it; returns the open folder, None where folders cannot be locked. Raises OSError."""
    path.mkdir()
    if sys.platform == "win32":
        return None
    file = os.open(path, os.O_RDONLY)
    with contextlib.suppress(OSError):  # a file system without locks
        _lock(file)
    return file


def is_abandoned(path: Path) -> bool:
    """Whether a file or folder locked like this is there and its process has ended; False where that is unknown."""
    try:
        file = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except OSError:
        return False
    try:
        return sys.platform != "win32" and _lock(file)
    except OSError:
        return False  # a file system without locks
    finally:
        os.close(file)


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> bool:
        os.lseek(file, 1 << 30, os.SEEK_SET)  # beyond the content, which others may read
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(file, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def _lock(file: int) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
