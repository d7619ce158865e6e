import json
import subprocess
import sys

import pytest

from pumpseg.errors import OptionError, SinkError
from pumpseg.watch.sinks.json_lines import JsonLinesEventSink


def read(path):
    text = path.read_text(encoding="utf-8")
    assert not text or text.endswith("\n")
    return [json.loads(line)["id"] for line in text.splitlines()]


def test_each_event_is_a_line_at_once_and_old_lines_stay(tmp_path, make_event):
    path, events = tmp_path / "new" / "events.jsonl", [make_event(camera="hof süd") for _ in range(4)]
    with JsonLinesEventSink(path) as sink:
        for count, event in enumerate(events[:3], 1):
            sink.send(event)
            assert len(read(path)) == count
    with JsonLinesEventSink(path) as sink:
        sink.send(events[3])
        assert sink.sent == 1
    assert read(path) == [event.id for event in events]
    assert "hof süd" in path.read_text(encoding="utf-8")
    assert "snapshot" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("rest", ['{"id": "half', "x" * 200_000, "\0"])
def test_half_a_line_is_removed_and_reported(tmp_path, make_event, caplog, rest):
    path, events = tmp_path / "events.jsonl", [make_event(), make_event()]
    path.write_text(events[0].to_json() + "\n" + rest, encoding="utf-8")
    with JsonLinesEventSink(path) as sink:
        assert read(path) == [events[0].id]
        sink.send(events[1])
    assert read(path) == [event.id for event in events]
    assert f"ended in half a line of {len(rest)} bytes, which is removed" in caplog.text


def test_a_file_of_half_a_line_only_becomes_empty(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"{" * 70_000)
    JsonLinesEventSink(path).close()
    assert path.read_bytes() == b""


def test_a_long_file_is_set_aside_and_a_few_are_kept(tmp_path, make_event):
    path, events = tmp_path / "events.jsonl", [make_event() for _ in range(12)]
    line = len(events[0].to_json()) + 1
    with JsonLinesEventSink(path, max_bytes=2 * line, kept_files=2) as sink:
        for event in events:
            sink.send(event)
    names = ["events.jsonl.2", "events.jsonl.1", "events.jsonl"]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(names)
    assert [number for name in names for number in read(tmp_path / name)] == [event.id for event in events[6:]]


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path, make_event):
    path, events = tmp_path / "events.jsonl", [make_event(), make_event()]
    with JsonLinesEventSink(path) as sink:
        sink.send(events[0])
        path.rename(tmp_path / "moved.jsonl")
        sink.send(events[1])
    assert read(tmp_path / "moved.jsonl") == [events[0].id]
    assert read(path) == [events[1].id]


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is a device of Linux")
def test_what_cannot_be_written_is_refused(tmp_path, make_event):
    with pytest.raises(SinkError, match="cannot write /dev/full: it is not a regular file"):
        JsonLinesEventSink(tmp_path.joinpath("/dev/full"))
    with pytest.raises(OptionError, match="must be 1 at least"):
        JsonLinesEventSink(tmp_path / "events.jsonl", kept_files=0)
    sink = JsonLinesEventSink(tmp_path / "events.jsonl")
    with pytest.raises(SinkError, match="another process writes it"):
        JsonLinesEventSink(tmp_path / "events.jsonl")
    sink.close()
    with pytest.raises(SinkError, match="it is closed"):
        sink.send(make_event())


FULL_DISK = """
import resource, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from pumpseg.errors import SinkError
from pumpseg.watch.event import Event, new_event_id
from pumpseg.watch.sinks.json_lines import JsonLinesEventSink

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with JsonLinesEventSink(Path(sys.argv[1])) as sink:
    while True:
        event = Event(new_event_id(), datetime.now(UTC), "yard", "crowded")
        try:
            sink.send(event)
        except SinkError as error:
            print(error)
            break
        print(event.id)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="resource is a module of Unix")
def test_a_full_disk_leaves_no_half_line(tmp_path):
    path = tmp_path / "events.jsonl"
    command = [sys.executable, "-c", FULL_DISK, path]
    *accepted, error = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert error.startswith(f"cannot write {path}: ")
    assert read(path) == accepted and accepted
