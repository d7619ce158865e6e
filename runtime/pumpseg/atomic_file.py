"""Files that appear under their name only when they are complete."""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pumpseg.errors import SinkError, first_line
from pumpseg.file_lock import is_abandoned, lock_file

log = logging.getLogger("pumpseg")

_PART, _LIVE = "part", "live"
_PARTIAL = re.compile(rf"\.({_PART}|{_LIVE})-(\d{{1,9}})-(.+)", re.DOTALL)
_NOT_THERE = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)  # what some file systems lack
_MAX_NAME = 255  # bytes, on nearly every file system


class PartialFile:
    """A temporary file next to `target`, made at once so that a path that cannot be written fails early.

    live: it records what cannot be had again. A symbolic link is followed. Partial files that a killed process left
    in the folder: those of the same target are removed, recordings of live sources get a name of their own,
    `rec.recovered-1.mp4` for `rec.mp4`, which is logged.
    Raises SinkError if the file cannot be made.
    """

    def __init__(self, target: Path, *, live: bool = False) -> None:
        self.target = target
        if target == Path("-"):
            raise SinkError("cannot write -: standard output is not possible here, name a file")
        self._place = Path(os.path.realpath(target))
        self.path = self._place.with_name(partial_name(target.name, _LIVE if live else _PART))
        self._lock: int | None = None
        self._made = False
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
        remove_abandoned(self._place)
        if sys.platform == "win32":
            self.path.touch()  # an open file could not be renamed
        else:
            try:
                self._lock = lock_file(self.path)
            except OSError as error:
                if error.errno not in _NOT_THERE:
                    raise
                # What a killed process leaves on a file system without locks stays there.
            else:
                if self._lock is None:
                    raise OSError("another process writes it")
        self._made = True

    def complete(self, *, sync: bool = True) -> None:
        """Give the file its name, replacing an existing file. sync: it survives a power cut from then on."""
        try:
            if sync:
                sync_file(self.path)
            self.path.replace(self._place)
            if sync:
                sync_file(self._place.parent)
        except OSError as error:
            raise SinkError(f"cannot write {self.target}: {error.strerror}") from None
        self._release()

    def recover(self) -> Path | None:
        """Give what is there a name of its own, see above; None if there is nothing."""
        try:
            return _recover(self.path, self._place)
        finally:
            self._release()

    def discard(self) -> None:
        if self._made:
            self.path.unlink(missing_ok=True)
        self._release()

    def _release(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


@contextlib.contextmanager
def complete_file(target: Path, *, sync: bool = True) -> Iterator[Path]:
    """The path to write to; the file gets its name on leaving, or is removed after an exception.

    sync: see `PartialFile.complete`.
    Raises SinkError if the file cannot be made, and in place of an OSError while writing.
    """
    partial = PartialFile(target)
    try:
        yield partial.path
        partial.complete(sync=sync)
    except OSError as error:
        if isinstance(error, SinkError):
            raise
        raise SinkError(f"cannot write {target}: {error.strerror or first_line(error)}") from None
    finally:
        partial.discard()


def check_writable(target: Path) -> None:
    """Raise SinkError unless the file can be written; leaves no trace."""
    PartialFile(target).discard()


def check_names(written: Iterable[Path], read: Iterable[Path]) -> None:
    """Raise SinkError if a file to be written is also read, or is named twice."""
    inputs = {os.path.realpath(path) for path in read}
    seen = set()
    for path in written:
        if os.path.realpath(path) in inputs:
            raise SinkError(f"{path} is an input: choose another name for the output")
        if os.path.realpath(path) in seen:
            shown = "standard output" if path == Path("-") else str(path)
            raise SinkError(f"two outputs would be written to {shown}")
        seen.add(os.path.realpath(path))


def write_text(target: Path, text: str) -> None:
    """Write a UTF-8 text file that appears when complete. Raises SinkError."""
    with complete_file(target) as path:
        path.write_text(text, encoding="utf-8")


def write_json(target: Path, content: Any, *, indent: int | None = 2) -> None:
    """Write a JSON file that appears when complete. Raises SinkError."""
    write_text(target, json.dumps(content, indent=indent) + "\n")


def sync_file(path: Path) -> None:
    """Return when a file, or the names in a folder, are on the disk. Raises OSError."""
    if sys.platform == "win32" and path.is_dir():
        return  # Windows keeps the names of folders by itself
    file = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
    finally:
        os.close(file)


def sync_tree(folder: Path) -> None:
    """`sync_file` for everything in a folder that this process may read. Raises OSError."""
    for path in folder.rglob("*"):
        if path.is_dir() or path.is_file():
            with contextlib.suppress(PermissionError):
                sync_file(path)
    sync_file(folder)


def remove_abandoned(place: Path) -> None:
    """Remove what killed processes left of a file or folder that did not get its name; see `PartialFile`."""
    for name in _left_behind(place.parent).get(partial_name(place.name, process=0), ()):
        path = place.with_name(name)
        if is_abandoned(path):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@functools.lru_cache(maxsize=64)
def _left_behind(folder: Path) -> Mapping[str, list[str]]:
    """Partial files that were in a folder at the first write, by the names that process 0 would give them.

    The folder is listed once: as results pile up, listing it for each of them would take longer and longer.
    Recordings of live sources are recovered.
    """
    found: dict[str, list[str]] = {}
    for name in sorted(os.listdir(folder)):  # noqa: PTH208 - names only
        partial = _PARTIAL.fullmatch(name)
        if partial is None:
            continue
        kind, _, target = partial.groups()
        if kind == _PART:
            found.setdefault(f".{_PART}-0-{target}", []).append(name)
        elif is_abandoned(folder / name):
            recovered = _recover(folder / name, folder / target)
            if recovered is not None:
                log.warning("an unfinished recording of %s was found: it is now %s", folder / target, recovered)
    return found


def _recover(partial: Path, place: Path) -> Path | None:
    if not partial.exists():
        return None
    if not partial.stat().st_size:
        partial.unlink()
        return None
    with contextlib.suppress(OSError):  # a full disk: what is there is kept all the same
        sync_file(partial)
    names = (place.with_name(f"{place.stem}.recovered-{number}{place.suffix}") for number in itertools.count(1))
    return partial.rename(next(path for path in names if not path.exists()))


def partial_name(target: str, kind: str = _PART, process: int | None = None) -> str:
    """The name of a file or folder until it is complete. process: its maker's, this one by default."""
    # The target's name comes last: encoders choose the format by its suffix.
    start = f".{kind}-{os.getpid() if process is None else process}-"
    if len(os.fsencode(start + target)) <= _MAX_NAME:
        return start + target
    import hashlib  # rarely needed, and slow to import

    return f"{start}{hashlib.sha256(os.fsencode(target)).hexdigest()[:16]}{Path(target).suffix}"
