"""The last events, for the page: kept over a restart."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from pathlib import Path

from pumpseg.atomic_file import complete_file
from pumpseg.errors import SinkError
from pumpseg.watch.event import Event
from pumpseg.watch.sinks.event_sink import EventSink

MAX_EVENTS = 50


class RecentEvents(EventSink):
    """Keeps the newest `maximum` events with their snapshots, as a JSON file each.

    Raises SinkError if the folder cannot be used.
    """

    name = "page"

    def __init__(self, folder: Path, maximum: int = MAX_EVENTS) -> None:
        self._folder, self._maximum = folder, maximum
        self._lock = threading.Lock()
        self._events: OrderedDict[str, Event] = OrderedDict()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(folder.glob("*.json")):
                with contextlib.suppress(ValueError):
                    event = Event.from_json(path.read_bytes())
                    self._events[event.id] = event
            self._forget()
        except OSError as error:
            raise SinkError(f"cannot use {folder}: {error.strerror or error}") from None

    def send(self, event: Event) -> None:
        # The page is on this machine's network, and asks for a token: it shows the full snapshot.
        with complete_file(self._path(event.id), sync=False) as path:
            path.write_text(event.to_json(event.snapshot), encoding="utf-8", errors="backslashreplace")
        with self._lock:
            self._events[event.id] = event
            self.sent += 1
            self._forget()

    def newest(self) -> list[Event]:
        """The newest first."""
        with self._lock:
            return list(reversed(self._events.values()))

    def find(self, event_id: str) -> Event | None:
        with self._lock:
            return self._events.get(event_id)

    def _forget(self) -> None:
        while len(self._events) > self._maximum:
            event_id, _ = self._events.popitem(last=False)
            self._path(event_id).unlink(missing_ok=True)

    def _path(self, event_id: str) -> Path:
        return self._folder / f"{event_id}.json"
