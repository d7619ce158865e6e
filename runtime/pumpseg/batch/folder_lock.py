"""One process at a time writes into a folder of results."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from pumpseg.errors import SinkError
from pumpseg.file_lock import lock_file

LOCK = ".pumpseg-lock"


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold a folder while results are written into it; its lock file names this process.

    The system releases the lock of a process that is killed. Raises SinkError, naming the owner, while another process
    holds the folder.
    """
    path = folder / LOCK
    try:
        file = lock_file(path, f"process {os.getpid()} on {socket.gethostname()}")
        owner = "" if file is not None else path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise SinkError(f"cannot lock {folder}: {error.strerror}") from None
    if file is None:
        raise SinkError(f"{owner or 'another process'} writes into {folder}: wait for it, or name another folder")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows keeps an open file
            path.unlink()
        os.close(file)
