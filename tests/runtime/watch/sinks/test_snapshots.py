import dataclasses
from datetime import UTC, datetime

from pumpseg.watch.sinks.snapshots import SnapshotSink, event_file_name


def test_each_snapshot_is_a_file_named_by_time_camera_rule_and_id(tmp_path, event):
    event = dataclasses.replace(
        event, time=datetime(2026, 11, 28, 1, 2, 3, tzinfo=UTC), camera="Hof/süd", rule="../x y"
    )
    with SnapshotSink(tmp_path / "new" / "shots") as sink:
        sink.send(event)
    (path,) = sink.folder.iterdir()
    assert path.name == f"20261128T010203Z-Hof_süd-___x_y-{event.id}.jpg"
    assert path.stem == event_file_name(event)
    assert path.read_bytes() == event.snapshot
    assert sink.find(event.id) == path
    assert sink.find("something else") is None


def test_an_event_without_a_snapshot_is_no_file(tmp_path, make_event):
    with SnapshotSink(tmp_path) as sink:
        sink.send(make_event(snapshot=None))
    assert list(tmp_path.iterdir()) == []


def test_the_oldest_go_and_later_runs_continue(tmp_path, make_event):
    events = [make_event(snapshot=bytes(100)) for _ in range(4)]
    for pair in (events[:2], events[2:]):
        with SnapshotSink(tmp_path, max_bytes=300) as sink:
            for event in pair:
                sink.send(event)
    assert sink.find(events[0].id) is None
    assert len(list(tmp_path.iterdir())) == 3
