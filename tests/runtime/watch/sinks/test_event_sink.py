from datetime import UTC, datetime

from pumpseg.errors import SinkError
from pumpseg.watch.event import Event, new_event_id
from pumpseg.watch.sinks.event_sink import EventSink, EventSinks


class ListSink(EventSink):
    name = "list"

    def __init__(self, fails=False):
        self.events, self.fails, self.closed = [], fails, False

    @property
    def waiting(self):
        return len(self.events)

    def send(self, event):
        if self.fails:
            raise SinkError("the disk is full")
        self.events.append(event)

    def close(self):
        self.closed = True


def test_a_sink_that_fails_does_not_hold_up_the_others(caplog):
    event = Event(new_event_id(), datetime.now(UTC), "yard", "crowded")
    first, broken, last = ListSink(), ListSink(fails=True), ListSink()
    with EventSinks([first, broken, last]) as sinks:
        sinks.send(event)
        assert sinks.waiting == 2
    assert first.events == last.events == [event]
    assert broken.failed == 1
    assert f"list: event {event.id} is lost: the disk is full" in caplog.text
    assert first.closed and broken.closed and last.closed
