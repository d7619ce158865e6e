"""What takes events."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

from pumpseg.errors import SinkError
from pumpseg.watch.event import Event

log = logging.getLogger("pumpseg")


class EventSink(ABC):
    """Takes events from any thread; closed when its with statement is left.

    name: for logs and metrics, without secrets. sent: events delivered so far. failed: events that could not be
    stored, as counted by `EventSinks`.
    """

    name: str = ""
    sent: int = 0
    failed: int = 0

    @property
    def waiting(self) -> int:
        """Events that are accepted and not yet delivered."""
        return 0

    @property
    def dropped(self) -> int:
        """Events that were accepted and then given up: no room, refused by the receiver, or damaged on disk."""
        return 0

    @abstractmethod
    def send(self, event: Event) -> None:
        """Accept an event without waiting for any receiver; it survives the process from then on.

        Raises SinkError if it cannot be stored.
        """

    def close(self) -> None:
        """Stop delivering; what waits is delivered when the sink is opened again. Does nothing twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class EventSinks(EventSink):
    """Passes each event to all sinks; one that fails is logged and does not hold up the others."""

    name = "all sinks"

    def __init__(self, sinks: Sequence[EventSink]) -> None:
        self.sinks = tuple(sinks)

    @property
    def waiting(self) -> int:
        return sum(sink.waiting for sink in self.sinks)

    @property
    def dropped(self) -> int:
        return sum(sink.dropped for sink in self.sinks)

    def send(self, event: Event) -> None:
        for sink in self.sinks:
            try:
                sink.send(event)
            except SinkError as error:
                sink.failed += 1
                log.error("%s: event %s is lost: %s", sink.name, event.id, error)

    def close(self) -> None:
        for sink in self.sinks:
            sink.close()
