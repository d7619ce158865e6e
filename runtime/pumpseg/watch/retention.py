"""Folders that keep the newest files only."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection
from pathlib import Path
from time import time

from pumpseg.errors import OptionError, SinkError
from pumpseg.file_lock import is_abandoned

log = logging.getLogger("pumpseg")


class Retention:
    """Removes the oldest of a folder's files when they are more than max_bytes, or older than max_age seconds.

    suffixes: of the files that it keeps and removes; others in the folder are left alone. The folder is made and read
    once; what killed processes left of files that did not get their name is removed then.
    Raises OptionError for limits that are not above 0, SinkError if the folder cannot be used.
    """

    def __init__(self, folder: Path, suffixes: Collection[str], *, max_bytes: float, max_age: float) -> None:
        if not (max_bytes > 0 and max_age > 0):
            raise OptionError(f"{folder}: files need more than {max_bytes:g} bytes and {max_age:g} s")
        self._max_bytes, self._max_age = max_bytes, max_age
        self._files: dict[Path, tuple[float, int]] = {}  # modified, bytes; oldest first
        self._total = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            found = [(path.stat(), path) for path in folder.iterdir() if path.suffix in suffixes and path.is_file()]
        except OSError as error:
            raise SinkError(f"cannot use the folder {folder}: {error.strerror or error}") from None
        for status, path in sorted(found, key=lambda file: file[0].st_mtime):
            if not path.name.startswith("."):
                self._files[path] = status.st_mtime, status.st_size
                self._total += status.st_size
        remove_partial_files(folder)
        self.enforce()

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return self._total

    @property
    def files(self) -> list[Path]:
        """Oldest first."""
        return list(self._files)

    def add(self, path: Path) -> list[Path]:
        """Count a file that was written, and return those that were removed for it."""
        self._forget(path)
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            self._files[path] = status.st_mtime, status.st_size
            self._total += status.st_size
        return self.enforce()

    def enforce(self) -> list[Path]:
        """Remove what is too old or too much, but never the newest file; returns it."""
        removed = []
        oldest_allowed = time() - self._max_age
        while len(self._files) > 1:
            path, (modified, _) = next(iter(self._files.items()))
            if modified >= oldest_allowed and self._total <= self._max_bytes:
                break
            self.remove(path)
            removed.append(path)
        return removed

    def remove(self, path: Path) -> None:
        """Remove a file."""
        self._forget(path)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.error("cannot remove %s: %s", path, error.strerror)

    def _forget(self, path: Path) -> None:
        self._total -= self._files.pop(path, (0.0, 0))[1]


def remove_partial_files(folder: Path) -> None:
    """Remove what killed processes left of files in a folder that did not get their name; see `PartialFile`.

    Files that are written again under the same name need no more than `PartialFile`.
    """
    for path in folder.glob(".part-*"):
        if is_abandoned(path):
            with contextlib.suppress(OSError):
                path.unlink()
