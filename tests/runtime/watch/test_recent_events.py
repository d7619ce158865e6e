"""The last events."""

from datetime import UTC, datetime

import pytest

from pumpseg.errors import SinkError
from pumpseg.watch.event import Event, new_event_id
from pumpseg.watch.recent_events import RecentEvents


def event(rule="crowd", snapshot=None):
    return Event(new_event_id(), datetime.now(UTC), "gate", rule, {"count": 3}, (1,), snapshot=snapshot)


def test_the_newest_are_kept_also_over_a_restart(tmp_path):
    recent = RecentEvents(tmp_path, maximum=3)
    events = [event(snapshot=bytes([number])) for number in range(5)]
    for one in events:
        recent.send(one)
    assert [one.id for one in recent.newest()] == [one.id for one in events[:1:-1]]
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    again = RecentEvents(tmp_path, maximum=3)
    assert [one.id for one in again.newest()] == [one.id for one in events[:1:-1]]
    assert again.find(events[4].id).snapshot == b"\x04"
    assert again.find(events[0].id) is None
    again.send(event("last"))
    assert len(list(tmp_path.glob("*-*.json"))) == 3


def test_a_folder_that_cannot_be_used(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="cannot use"):
        RecentEvents(tmp_path / "file" / "recent")
