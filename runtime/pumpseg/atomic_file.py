"""Files that appear under their name only when they are complete."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pumpseg.errors import SinkError

_PARTIAL = re.compile(r"\.part-(\d{1,9})-(.+)", re.DOTALL)
_MAX_NAME = 255  # bytes, on nearly every file system


class PartialFile:
    """A temporary file next to `target`, made at once so that a path that cannot be written fails early.

    A symbolic link is followed. Partial files of the same target that a killed process left behind are removed.
    Raises SinkError if the file cannot be made.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        if target == Path("-"):
            raise SinkError("cannot write -: standard output is not possible here, name a file")
        self._place = Path(os.path.realpath(target))
        self.path = self._place.with_name(_partial_name(os.getpid(), target.name))
        try:
            self._begin()
        except OSError as error:
            with contextlib.suppress(OSError):
                self.discard()
            raise SinkError(f"cannot write {target}: {error.strerror or error}") from None

    def _begin(self) -> None:
        if self._place.is_dir():
            raise OSError("it is a folder")
        if self._place.exists():
            if not self._place.is_file():
                raise OSError("it is not a regular file")
            if not os.access(self._place, os.W_OK):
                raise PermissionError(13, "Permission denied")
        self.path.touch()
        _remove_orphans(self._place.parent, self.target.name)

    def complete(self) -> None:
        """Give the file its name, replacing an existing file."""
        try:
            self.path.replace(self._place)
        except OSError as error:
            self.discard()
            raise SinkError(f"cannot write {self.target}: {error.strerror}") from None

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def complete_file(target: Path) -> Iterator[Path]:
    """The path to write to; the file gets its name on leaving, or is removed after an exception.

    Raises SinkError if the file cannot be made, and in place of an OSError while writing.
    """
    partial = PartialFile(target)
    try:
        yield partial.path
        partial.complete()
    except OSError as error:
        if isinstance(error, SinkError):
            raise
        raise SinkError(f"cannot write {target}: {error.strerror or error}") from None
    finally:
        partial.discard()


def check_writable(target: Path) -> None:
    """Raise SinkError unless the file can be written; leaves no trace."""
    PartialFile(target).discard()


def check_names(written: Iterable[Path], read: Iterable[Path]) -> None:
    """Raise SinkError if a file to be written is also read, or is named twice."""
    inputs = {path.resolve() for path in read}
    seen = set()
    for path in written:
        if path.resolve() in inputs:
            raise SinkError(f"{path} is an input: choose another name for the output")
        if path.resolve() in seen:
            shown = "standard output" if path == Path("-") else str(path)
            raise SinkError(f"two outputs would be written to {shown}")
        seen.add(path.resolve())


def write_text(target: Path, text: str) -> None:
    """Write a UTF-8 text file that appears when complete. Raises SinkError."""
    with complete_file(target) as path:
        path.write_text(text, encoding="utf-8")


def write_json(target: Path, content: Any, *, indent: int | None = 2) -> None:
    """Write a JSON file that appears when complete. Raises SinkError."""
    write_text(target, json.dumps(content, indent=indent) + "\n")


def _remove_orphans(folder: Path, target: str) -> None:
    """Remove partial files of `target` whose process is gone; they stay where the system does not say."""
    if sys.platform == "win32":
        return
    for process in _processes_before(folder).get(_partial_name(0, target), ()):
        if not _runs(process):
            (folder / _partial_name(process, target)).unlink(missing_ok=True)


@functools.lru_cache(maxsize=64)
def _processes_before(folder: Path) -> Mapping[str, list[int]]:
    """Processes whose partial files were in a folder at the first write, by the names that process 0 would give them.

    The folder is listed once: as results pile up, listing it for each of them would take longer and longer.
    """
    found: dict[str, list[int]] = {}
    for name in os.listdir(folder):  # noqa: PTH208 - names only
        partial = _PARTIAL.fullmatch(name)
        if partial and int(partial[1]) != os.getpid():
            found.setdefault(f".part-0-{partial[2]}", []).append(int(partial[1]))
    return found


def _partial_name(process: int, target: str) -> str:
    # The target's name comes last: encoders choose the format by its suffix.
    name = f".part-{process}-{target}"
    if len(os.fsencode(name)) <= _MAX_NAME:
        return name
    import hashlib  # rarely needed, and slow to import

    return f".part-{process}-{hashlib.sha256(os.fsencode(target)).hexdigest()[:16]}{Path(target).suffix}"


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
