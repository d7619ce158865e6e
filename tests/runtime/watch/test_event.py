import dataclasses
import json
import threading
from datetime import UTC, datetime, timedelta, timezone

import jsonschema
import numpy as np
import pytest

from pumpseg.watch.event import EVENT_SCHEMA, Event, new_event_id

JPEG = b"\xff\xd8\xff\xe0 not really"


@pytest.fixture
def event():
    return Event(
        new_event_id(),
        datetime(2026, 11, 28, 1, 2, 3, 456_000, UTC),
        "hof süd",
        "crowded",
        {"count": 3, "occupancy": 0.25, "zone": "gate"},
        (4, 7),
        JPEG,
    )


def test_json_of_an_event_is_one_line_that_the_schema_accepts(event):
    for text in (event.to_json(), event.to_json(event.snapshot)):
        assert "\n" not in text
        jsonschema.validate(json.loads(text), EVENT_SCHEMA)
    assert "snapshot" not in json.loads(event.to_json())


def test_schema_refuses_what_is_not_an_event(event):
    for change in ({"id": "7"}, {"time": "today"}, {"values": {"a": [1]}}, {"track_ids": ["x"]}, {"more": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**json.loads(event.to_json()), **change}, EVENT_SCHEMA)


def test_an_event_comes_back_from_its_json(event):
    assert Event.from_json(event.to_json(event.snapshot)) == event
    assert Event.from_json(event.to_json().encode()) == dataclasses.replace(event, snapshot=None)


@pytest.mark.parametrize("text", ["", "{}", "[]", '"x"', '{"id": 1', "[" * 100_000, '{"snapshot": "§"}'])
def test_json_that_is_no_event_is_refused(text):
    with pytest.raises(ValueError):
        Event.from_json(text)


def test_time_is_written_in_utc_and_needs_a_zone(event):
    summer = dataclasses.replace(event, time=datetime(2026, 7, 1, 0, 30, tzinfo=timezone(timedelta(hours=2))))
    assert json.loads(summer.to_json())["time"] == "2026-06-30T22:30:00.000Z"
    with pytest.raises(ValueError, match="needs a time zone"):
        dataclasses.replace(event, time=datetime(2026, 7, 1))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, [1]])
def test_a_value_that_json_lacks_is_refused(event, value):
    with pytest.raises(ValueError, match="the value occupancy of an event must be a finite number or a text"):
        dataclasses.replace(event, values={"occupancy": value})


def test_ids_are_unique_and_sort_by_time():
    lists = [[] for _ in range(4)]
    threads = [threading.Thread(target=lambda ids=ids: ids.extend(new_event_id() for _ in range(500))) for ids in lists]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(ids == sorted(ids) for ids in lists)
    assert len({number for ids in lists for number in ids}) == 2000


def test_repr_does_not_show_the_picture(event):
    assert "not really" not in repr(event)


def test_numpy_numbers_become_plain_ones(event):
    measured = dataclasses.replace(
        event, values={"count": np.int64(3), "occupancy": np.float32(0.5)}, track_ids=np.array([4, 7])
    )
    assert json.loads(measured.to_json())["values"] == {"count": 3, "occupancy": 0.5}
    assert measured.track_ids == (4, 7)
