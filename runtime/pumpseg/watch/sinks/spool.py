"""Events on disk until they are delivered: a file each, so that a killed process loses none."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from pathlib import Path

from pumpseg.atomic_file import sync_file
from pumpseg.errors import OptionError, SinkError
from pumpseg.file_lock import lock_file
from pumpseg.watch.event import Event

log = logging.getLogger("pumpseg")

MAX_EVENTS = 10_000
MAX_BYTES = 256 * 1024 * 1024
_LOCK = ".lock"


class Spool:
    """A queue of events in a folder of its own, oldest first; for any number of threads of one process.

    An event is a file ID.json, and is there or not: it is written under another name first. When there are more than
    max_events or max_bytes, the oldest are dropped, which is logged and counted in `dropped`.
    Raises OptionError for limits below 1, SinkError if the folder cannot be written or another process uses it.
    """

    def __init__(self, folder: Path, *, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES) -> None:
        if max_events < 1 or max_bytes < 1:
            raise OptionError(f"a spool holds 1 event and 1 byte at least, not {max_events} and {max_bytes}")
        self.folder = folder
        self.dropped = 0
        self._max_events, self._max_bytes = max_events, max_bytes
        self._changed = threading.Condition()
        self._sizes: dict[str, int] = {}  # of the events by id, in order
        self._total = 0
        self._stopped = False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = lock_file(folder / _LOCK, f"process {os.getpid()}\n")
        except OSError as error:
            raise SinkError(f"cannot write into {folder}: {error.strerror or error}") from None
        if self._lock is None:
            raise SinkError(f"another process uses {folder}: stop it, or name another folder")
        for path in sorted(folder.iterdir()):
            if path.suffix == ".part":  # never accepted
                path.unlink(missing_ok=True)
            elif path.suffix == ".json":
                self._sizes[path.stem] = path.stat().st_size
                self._total += self._sizes[path.stem]

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def size(self) -> int:
        """Bytes of all events together."""
        return self._total

    def add(self, event: Event, snapshot: bytes | None = None) -> None:
        """Store an event with a snapshot, JPEG; one that is there already is kept. It survives a killed process.

        Raises SinkError if it cannot be written.
        """
        content = event.to_json(snapshot).encode(errors="backslashreplace")
        path, partial = self._path(event.id), self.folder / f"{event.id}.part"
        with self._changed:
            if event.id in self._sizes:
                return
            try:
                partial.write_bytes(content)
                partial.replace(path)
            except OSError as error:
                with contextlib.suppress(OSError):
                    partial.unlink(missing_ok=True)
                raise SinkError(f"cannot write {path}: {error.strerror or error}") from None
            self._sizes[event.id] = len(content)
            self._total += len(content)
            self._drop_oldest()
            self._changed.notify_all()

    def _drop_oldest(self) -> None:
        dropped = []
        while len(self._sizes) > self._max_events or (self._total > self._max_bytes and len(self._sizes) > 1):
            oldest = next(iter(self._sizes))
            self._forget(oldest)
            dropped.append(oldest)
        if dropped:
            self.dropped += len(dropped)
            log.warning("%s is full: event %s is dropped, the oldest; %d so far", self.folder, dropped[0], self.dropped)

    def oldest(self, timeout: float | None = None) -> tuple[str, bytes] | None:
        """Id and JSON of the oldest event, which stays; None after the timeout in seconds, or at `stop_waiting`.

        It is on the disk, also after a power cut, when it is returned. A file that is no event any more is set aside
        as ID.damaged, logged and counted in `dropped`.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._sizes or self._stopped, timeout)
            event_id = next(iter(self._sizes), None)
        if event_id is None:
            return None
        path = self._path(event_id)
        try:
            sync_file(path)
            sync_file(self.folder)
            content = path.read_bytes()
            if Event.from_json(content).id != event_id:
                raise ValueError("it has another id")
        except FileNotFoundError:
            self.remove(event_id)  # dropped in the meantime
            return None
        except (OSError, ValueError) as error:
            with contextlib.suppress(OSError):
                path.replace(path.with_suffix(".damaged"))
            self.remove(event_id)
            self.dropped += 1
            log.error("event %s cannot be read and is set aside as %s.damaged: %s", event_id, path.stem, error)
            return None
        return event_id, content

    def remove(self, event_id: str) -> None:
        """Forget an event, which is delivered. One that is not there is fine."""
        with self._changed:
            self._forget(event_id)

    def _forget(self, event_id: str) -> None:
        self._total -= self._sizes.pop(event_id, 0)
        try:
            self._path(event_id).unlink(missing_ok=True)
        except OSError as error:
            log.error("cannot remove %s: %s", self._path(event_id), error.strerror)

    def _path(self, event_id: str) -> Path:
        return self.folder / f"{event_id}.json"

    def stop_waiting(self) -> None:
        """Let `oldest` wait no more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def close(self) -> None:
        """Let another process use the folder; what is in it stays. Does nothing twice."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)
