"""Events as JSON lines in a file that grows."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from pathlib import Path

from pumpseg.errors import OptionError, SinkError
from pumpseg.file_lock import lock_file
from pumpseg.watch.event import Event
from pumpseg.watch.sinks.event_sink import EventSink

log = logging.getLogger("pumpseg")

MAX_BYTES = 64 * 1024 * 1024
KEPT_FILES = 4


class JsonLinesEventSink(EventSink):
    """Appends a line for each event, without its snapshot; see `Event.to_json`.

    An accepted event survives the process; a thread syncs the file, so that it also survives a power cut a moment
    later. Half a line that a power cut or a full disk left is removed when the file is opened or written again.
    max_bytes: a longer file becomes NAME.1, the one before NAME.2, of which `kept_files` stay. A file that another
    program moves away is begun anew.
    Raises OptionError for limits below 1, SinkError if the file cannot be written or another process writes it.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES, kept_files: int = KEPT_FILES) -> None:
        if max_bytes < 1 or kept_files < 1:
            raise OptionError(f"max_bytes and kept_files must be 1 at least, not {max_bytes} and {kept_files}")
        self.name = f"JSON lines {path}"
        self.path = path
        self._max_bytes, self._kept_files = max_bytes, kept_files
        self._written = threading.Condition()
        self._unsynced = self._closing = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: int | None = self._open()
        except OSError as error:
            raise SinkError(f"cannot write {path}: {error.strerror or error}") from None
        self._syncer = threading.Thread(target=self._sync_all, name="pumpseg-jsonl", daemon=True)
        self._syncer.start()

    def _open(self) -> int:
        if self.path.exists() and not self.path.is_file():
            raise OSError("it is not a regular file")
        file = lock_file(self.path)
        if file is None:
            raise OSError("another process writes it")
        size = os.fstat(file).st_size
        complete = _complete_bytes(file, size)
        if complete < size:
            log.warning("%s ended in half a line of %d bytes, which is removed", self.path, size - complete)
            os.truncate(file, complete)
        os.lseek(file, complete, os.SEEK_SET)
        return file

    def send(self, event: Event) -> None:
        line = (event.to_json() + "\n").encode(errors="backslashreplace")
        with self._written:
            if self._closing:
                raise SinkError(f"cannot write {self.path}: it is closed")
            try:
                self._append(line)
            except OSError as error:
                raise SinkError(f"cannot write {self.path}: {error.strerror or error}") from None
            self.sent += 1
            self._unsynced = True
            self._written.notify_all()

    def _append(self, line: bytes) -> None:
        if self._file is not None and not _is_at(self._file, self.path):
            self._release()
        if self._file is None:
            self._file = self._open()
        end = os.lseek(self._file, 0, os.SEEK_END)
        if end and end + len(line) > self._max_bytes:
            self._rotate()
            end = 0
        try:
            if os.write(self._file, line) < len(line):
                raise OSError("the disk is full")
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(self._file, end)
            raise

    def _rotate(self) -> None:
        self._release()
        for number in range(self._kept_files, 0, -1):
            older = self.path if number == 1 else self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))
        self._file = self._open()

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def _release(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _sync_all(self) -> None:
        while True:
            with self._written:
                self._written.wait_for(lambda: self._unsynced or self._closing)
                if not self._unsynced:
                    return
                self._unsynced = False
                # A copy: the file may be replaced while the disk is waited for.
                file = None if self._file is None else os.dup(self._file)
            if file is None:
                continue
            try:
                os.fsync(file)
            except OSError as error:
                log.error("cannot sync %s: %s", self.path, error.strerror)
            finally:
                os.close(file)

    def close(self) -> None:
        with self._written:
            self._closing = True
            self._written.notify_all()
        self._syncer.join(timeout=10)
        with self._written:
            self._release()


def _complete_bytes(file: int, size: int) -> int:
    """Length of a file up to and with its last line feed."""
    end = size
    while end > 0:
        start = max(0, end - 65536)
        os.lseek(file, start, os.SEEK_SET)
        block = os.read(file, end - start)
        if not block:
            return 0
        found = block.rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
