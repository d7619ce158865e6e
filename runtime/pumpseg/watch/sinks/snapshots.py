"""Snapshots of events as JPEG files."""

from __future__ import annotations

import threading
from datetime import UTC
from pathlib import Path

from pumpseg.atomic_file import complete_file
from pumpseg.watch.event import Event
from pumpseg.watch.retention import Retention
from pumpseg.watch.sinks.event_sink import EventSink

MAX_BYTES = 1e9
MAX_AGE = 30 * 24 * 3600.0


class SnapshotSink(EventSink):
    """Writes the snapshot of each event that has one into a folder: TIME-CAMERA-RULE-ID.jpg, the time in UTC.

    max_bytes, max_age: the oldest files beyond so many bytes, or older than so many seconds, are removed.
    Raises OptionError for limits that are not above 0, SinkError if the folder cannot be used.
    """

    def __init__(self, folder: Path, *, max_bytes: float = MAX_BYTES, max_age: float = MAX_AGE) -> None:
        self.name = f"snapshots {folder}"
        self.folder = folder
        self._retention = Retention(folder, (".jpg",), max_bytes=max_bytes, max_age=max_age)
        self._lock = threading.Lock()

    def send(self, event: Event) -> None:
        if event.snapshot is None:
            return
        target = self.folder / f"{event_file_name(event)}.jpg"
        # Not synced: after a power cut the last pictures may be lost, and no camera waits for the disk.
        with complete_file(target, sync=False) as path:
            path.write_bytes(event.snapshot)
        with self._lock:
            self._retention.add(target)
            self.sent += 1

    def find(self, event_id: str) -> Path | None:
        """The file of an event; None if there is none, or no more."""
        with self._lock:
            return next((path for path in self._retention.files if path.stem.endswith(event_id)), None)


def event_file_name(event: Event) -> str:
    """TIME-CAMERA-RULE-ID, the time in UTC: a name of a file without its suffix, sorting by time."""
    moment = event.time.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{moment}-{_in_file_name(event.camera)}-{_in_file_name(event.rule)}-{event.id}"


def _in_file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:64]
