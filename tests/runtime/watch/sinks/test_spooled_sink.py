import itertools
import threading
import time

import pytest

from pumpseg.errors import OptionError
from pumpseg.watch.event import Event
from pumpseg.watch.sinks.spool import Spool
from pumpseg.watch.sinks.spooled_sink import Refused, RetryLater, SpooledSink


class ScriptedSink(SpooledSink):
    """Delivers into a list; each attempt first raises the next of `errors`, None for nothing."""

    def __init__(self, folder, errors=(), **options):
        super().__init__("scripted", Spool(folder), **{"first_delay": 0.01, "max_delay": 0.04, **options})
        self.errors, self.attempts, self.delivered, self.gate = list(errors), [], [], None
        self.start()

    def deliver(self, event_id, content):
        self.attempts.append((event_id, time.monotonic()))
        if self.gate is not None:
            self.gate.wait(20)
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        self.delivered.append(Event.from_json(content))

    def interrupt(self):
        if self.gate is not None:
            self.gate.set()


def test_events_are_delivered_in_order(tmp_path, make_event, until):
    events = [make_event() for _ in range(5)]
    with ScriptedSink(tmp_path) as sink:
        for event in events:
            sink.send(event)
        until(lambda: sink.sent == 5 and not sink.waiting)
    assert [event.id for event in sink.delivered] == [event.id for event in events]


@pytest.mark.parametrize("kind", ["full", "blurred", "none"])
def test_the_snapshot_that_leaves_is_the_one_chosen(tmp_path, event, until, kind):
    with ScriptedSink(tmp_path, snapshot=kind) as sink:
        sink.send(event)
        until(lambda: sink.delivered)
    wanted = {"full": event.snapshot, "blurred": event.blurred_snapshot, "none": None}[kind]
    assert sink.delivered[0].snapshot == wanted


def test_a_full_snapshot_never_replaces_a_missing_blurred_one(tmp_path, make_event, until):
    with ScriptedSink(tmp_path, snapshot="blurred") as sink:
        sink.send(make_event(blurred_snapshot=None))
        until(lambda: sink.delivered)
    assert sink.delivered[0].snapshot is None


def test_an_unknown_kind_of_snapshot_is_refused(tmp_path):
    with pytest.raises(OptionError, match="unknown snapshot 'blured'; there are full, blurred, none"):
        ScriptedSink(tmp_path, snapshot="blured")


def test_failures_are_retried_ever_more_seldom_and_logged_once(tmp_path, event, until, caplog):
    caplog.set_level("INFO", logger="pumpseg")
    errors = [RetryLater("no answer")] * 4 + [RuntimeError("a fault of ours")]
    with ScriptedSink(tmp_path, errors, first_delay=0.04, max_delay=10) as sink:
        sink.send(event)
        until(lambda: sink.delivered)
    assert [event_id for event_id, _ in sink.attempts] == [event.id] * 6
    moments = [moment for _, moment in sink.attempts]
    pauses = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert all(pause >= 0.02 * 2**i for i, pause in enumerate(pauses))
    assert caplog.text.count("scripted: no answer; events waiting: 1") == 1
    assert "a fault of ours" in caplog.text
    assert "scripted accepts events again after" in caplog.text


def test_the_pause_that_the_receiver_asks_for_is_kept(tmp_path, event, until):
    with ScriptedSink(tmp_path, [RetryLater("busy", retry_after=0.3)]) as sink:
        sink.send(event)
        until(lambda: sink.delivered)
    assert sink.attempts[1][1] - sink.attempts[0][1] >= 0.3


def test_an_event_that_is_refused_does_not_hold_up_the_others(tmp_path, make_event, until, caplog):
    first, second = make_event(), make_event()
    with ScriptedSink(tmp_path, [Refused("the server answered 422")]) as sink:
        sink.send(first)
        sink.send(second)
        until(lambda: sink.delivered)
        assert (sink.sent, sink.dropped) == (1, 1)
    assert sink.delivered[0].id == second.id
    assert f"event {first.id} is dropped: the server answered 422" in caplog.text


def test_sending_waits_for_no_receiver(tmp_path, make_event):
    sink = ScriptedSink(tmp_path)
    sink.gate = threading.Event()
    start = time.monotonic()
    for _ in range(20):
        sink.send(make_event())
    assert time.monotonic() - start < 2
    assert sink.waiting == 20
    sink.gate.set()
    sink.close()


def test_closing_lets_the_last_attempt_end_and_keeps_the_rest(tmp_path, make_event, until):
    sink = ScriptedSink(tmp_path)
    sink.gate = threading.Event()
    for _ in range(3):
        sink.send(make_event())
    until(lambda: sink.attempts)
    threading.Timer(0.2, sink.gate.set).start()
    sink.close()
    sink.close()
    assert len(sink.delivered) == 1
    with ScriptedSink(tmp_path) as sink:
        until(lambda: len(sink.delivered) == 2)


def test_closing_during_a_long_pause_does_not_wait(tmp_path, event, until):
    sink = ScriptedSink(tmp_path, [RetryLater("busy", retry_after=60)])
    sink.send(event)
    until(lambda: sink.attempts)
    start = time.monotonic()
    sink.close()
    assert time.monotonic() - start < 2
