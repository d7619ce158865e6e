"""A sink that delivers events over a network: from a spool, in order, with retries."""

from __future__ import annotations

import logging
import random
import threading
from abc import abstractmethod
from time import monotonic
from typing import Literal, TypeAlias, get_args

from pumpseg.errors import OptionError
from pumpseg.watch.event import Event
from pumpseg.watch.sinks.event_sink import EventSink
from pumpseg.watch.sinks.spool import Spool

log = logging.getLogger("pumpseg")

FIRST_DELAY = 1.0
MAX_DELAY = 300.0
MAX_RETRY_AFTER = 3600.0
_LAST_ATTEMPT = 3.0

SnapshotKind: TypeAlias = Literal["full", "blurred", "none"]
SNAPSHOT_KINDS: tuple[SnapshotKind, ...] = get_args(SnapshotKind)


class RetryLater(Exception):
    """The receiver did not accept an event, and may later. retry_after: seconds that it asked for."""

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Refused(Exception):
    """The receiver will never accept this event."""


class SpooledSink(EventSink):
    """Stores events in a spool; a thread delivers them, oldest first, and retries with exponential backoff and jitter.

    An event leaves the spool when the receiver has acknowledged it. Only the one that is on its way when the process
    is killed can arrive twice, with the same id.

    snapshot: which one goes along: "full", "blurred" or "none". A blurred one that an event lacks is never replaced by
    the full one. first_delay, max_delay: seconds between attempts, at first and at most.
    """

    def __init__(
        self,
        name: str,
        spool: Spool,
        *,
        snapshot: SnapshotKind = "full",
        first_delay: float = FIRST_DELAY,
        max_delay: float = MAX_DELAY,
    ) -> None:
        if snapshot not in SNAPSHOT_KINDS:
            raise OptionError(f"unknown snapshot {snapshot!r}; there are {', '.join(SNAPSHOT_KINDS)}")
        self.name = name
        self.spool = spool
        self._snapshot = snapshot
        self._first_delay, self._max_delay = first_delay, max_delay
        self._refused = 0
        self._closing = threading.Event()
        self._deliverer = threading.Thread(target=self._deliver_all, name=f"pumpseg-{name}", daemon=True)

    def start(self) -> None:
        """Begin to deliver: at the end of a subclass's __init__."""
        if len(self.spool):
            log.info("%s: events waiting from before: %d", self.name, len(self.spool))
        self._deliverer.start()

    @abstractmethod
    def deliver(self, event_id: str, content: bytes) -> None:
        """Return when the receiver has acknowledged the event; content: its JSON.

        Called in the sink's own thread. Raises RetryLater or Refused.
        """

    def interrupt(self) -> None:
        """End a `deliver` that waits for the network; called when the sink is closed, in another thread."""

    @property
    def waiting(self) -> int:
        return len(self.spool)

    @property
    def dropped(self) -> int:
        return self.spool.dropped + self._refused

    @property
    def closing(self) -> threading.Event:
        """Set when the sink is being closed."""
        return self._closing

    def send(self, event: Event) -> None:
        snapshots = {"full": event.snapshot, "blurred": event.blurred_snapshot, "none": None}
        self.spool.add(event, snapshots[self._snapshot])

    def _deliver_all(self) -> None:
        failures, since, reason = 0, 0.0, ""
        while not self._closing.is_set():
            oldest = self.spool.oldest()
            if oldest is None or self._closing.is_set():
                continue
            event_id, content = oldest
            try:
                self.deliver(event_id, content)
            except Refused as error:
                self._refused += 1
                log.error("%s: event %s is dropped: %s", self.name, event_id, error)
            except Exception as error:
                if self._closing.is_set():
                    return
                if not isinstance(error, RetryLater):
                    log.exception("%s: event %s", self.name, event_id)
                if str(error) != reason:
                    log.warning("%s: %s; events waiting: %d", self.name, error, self.waiting)
                since, reason, failures = since or monotonic(), str(error), failures + 1
                self._closing.wait(self._delay(failures, getattr(error, "retry_after", 0.0)))
                continue
            else:
                self.sent += 1
            self.spool.remove(event_id)
            if failures:
                log.info("%s accepts events again after %.0f s", self.name, monotonic() - since)
            failures, since, reason = 0, 0.0, ""

    def _delay(self, failures: int, retry_after: float) -> float:
        delay = min(self._max_delay, self._first_delay * 2 ** min(failures - 1, 30))
        # Many machines that lost the same receiver must not come back at the same moment.
        return max(random.uniform(delay / 2, delay), min(retry_after, MAX_RETRY_AFTER))

    def close(self) -> None:
        self._closing.set()
        self.spool.stop_waiting()
        if self._deliverer.ident is not None:
            # An attempt that is cut off may have arrived, and would be repeated after the next start.
            self._deliverer.join(timeout=_LAST_ATTEMPT)
            self.interrupt()
            self._deliverer.join(timeout=_LAST_ATTEMPT)
        self.spool.close()
