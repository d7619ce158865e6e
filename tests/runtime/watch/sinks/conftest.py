"""Events, and receivers to send them to."""

import time
from datetime import UTC, datetime

import pytest
from webhook_receiver import Receiver

from pumpseg.watch.event import Event, new_event_id

JPEG = b"\xff\xd8\xff\xe0 the frame"
BLURRED = b"\xff\xd8\xff\xe0 the blurred frame"


@pytest.fixture
def make_event():
    def make(rule="crowded", camera="yard", **changes):
        changes = {"values": {"count": 3}, "snapshot": JPEG, "blurred_snapshot": BLURRED, **changes}
        return Event(new_event_id(), datetime.now(UTC), camera, rule, **changes)

    return make


@pytest.fixture
def event(make_event):
    return make_event()


@pytest.fixture
def make_receiver():
    receivers = []

    def make(port=0):
        receivers.append(Receiver(port))
        return receivers[-1]

    yield make
    for receiver in receivers:
        receiver.close()


@pytest.fixture
def receiver(make_receiver):
    return make_receiver()


@pytest.fixture
def until():
    """Waits until a condition holds, 10 s at most."""

    def wait(condition):
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end, "it did not happen within 10 s"
            time.sleep(0.01)

    return wait
