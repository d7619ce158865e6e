import json
import os
import subprocess
import sys

import pytest

from pumpseg.errors import OptionError, SinkError
from pumpseg.watch.event import Event
from pumpseg.watch.sinks.spool import Spool


@pytest.fixture
def open_spool(tmp_path):
    spools = []

    def make(**options):
        for spool in spools:
            spool.close()
        spools.append(Spool(tmp_path / "spool", **options))
        return spools[-1]

    yield make
    for spool in spools:
        spool.close()


def test_events_come_oldest_first_and_stay_until_they_are_removed(open_spool, make_event):
    spool = open_spool()
    events = [make_event() for _ in range(3)]
    for event in (events[0], events[1], events[1], events[2]):
        spool.add(event, event.snapshot)
    assert len(spool) == 3
    for event in events:
        for _ in range(2):
            event_id, content = spool.oldest()
            assert event_id == event.id
            assert Event.from_json(content).snapshot == event.snapshot
        spool.remove(event.id)
    assert len(spool) == spool.size == 0
    assert spool.oldest(timeout=0.01) is None


def test_what_waits_is_there_after_the_next_start(open_spool, make_event):
    events = [make_event() for _ in range(3)]
    spool = open_spool()
    for event in events:
        spool.add(event)
    spool.remove(events[0].id)
    size = spool.size
    spool = open_spool()
    assert (len(spool), spool.size) == (2, size)
    assert spool.oldest()[0] == events[1].id


def test_the_oldest_are_dropped_and_counted_beyond_the_number(open_spool, make_event, caplog):
    spool = open_spool(max_events=2)
    events = [make_event() for _ in range(5)]
    for event in events:
        spool.add(event)
    assert (len(spool), spool.dropped, spool.oldest()[0]) == (2, 3, events[3].id)
    assert f"is full: event {events[0].id} is dropped" in caplog.text


def test_the_oldest_are_dropped_beyond_the_bytes_but_never_the_last(open_spool, make_event):
    spool = open_spool(max_bytes=100_000)
    for _ in range(5):
        spool.add(make_event(), bytes(30_000))
    assert (len(spool), spool.dropped) == (2, 3)
    assert spool.size == sum(path.stat().st_size for path in spool.folder.glob("*.json")) < 100_000
    spool.add(make_event(), bytes(200_000))
    assert (len(spool), spool.dropped) == (1, 5)


def test_limits_that_hold_nothing_are_refused(tmp_path):
    with pytest.raises(OptionError, match="a spool holds 1 event and 1 byte at least"):
        Spool(tmp_path, max_events=0)


def test_half_a_file_is_no_event(open_spool, make_event):
    spool, event = open_spool(), make_event()
    spool.add(event)
    (spool.folder / f"{make_event().id}.part").write_text('{"id": "0', encoding="utf-8")
    spool = open_spool()
    assert len(spool) == 1
    assert not list(spool.folder.glob("*.part"))


@pytest.mark.parametrize("content", [b"", b'{"id": "01', b"\0" * 300, b"{}", b"[" * 100_000])
def test_a_damaged_event_is_set_aside_and_reported(open_spool, make_event, caplog, content):
    spool, damaged, good = open_spool(), make_event(), make_event()
    spool.add(damaged)
    spool.add(good)
    (spool.folder / f"{damaged.id}.json").write_bytes(content)
    assert spool.oldest() is None
    assert spool.oldest()[0] == good.id
    assert (spool.folder / f"{damaged.id}.damaged").read_bytes() == content
    assert spool.dropped == 1
    assert f"{damaged.id} cannot be read and is set aside" in caplog.text


def test_an_event_that_is_renamed_is_not_sent_under_the_wrong_id(open_spool, make_event):
    spool, event, other = open_spool(), make_event(), make_event()
    spool.add(event)
    (spool.folder / f"{event.id}.json").write_text(other.to_json(), encoding="utf-8")
    assert spool.oldest() is None
    assert spool.dropped == 1


def test_a_folder_in_use_is_refused(open_spool):
    spool = open_spool()
    with pytest.raises(SinkError, match=r"another process uses .*spool: stop it, or name another folder"):
        Spool(spool.folder)
    spool.close()
    Spool(spool.folder).close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(SinkError, match=r"cannot write into .*spool: Permission denied"):
        Spool(tmp_path / "spool")


def test_a_disk_that_fails_is_an_error_of_the_event(open_spool, make_event):
    spool = open_spool()
    (spool.folder / ".lock").unlink()
    spool.folder.rmdir()
    with pytest.raises(SinkError, match=r"cannot write .*json: No such file or directory"):
        spool.add(make_event())
    assert len(spool) == 0


WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from pumpseg.watch.event import Event, new_event_id
from pumpseg.watch.sinks.spool import Spool

spool = Spool(Path(sys.argv[1]))
while True:
    event = Event(new_event_id(), datetime.now(UTC), "yard", "crowded")
    spool.add(event, bytes(50_000))
    print(event.id, flush=True)
"""


def test_no_accepted_event_is_lost_when_the_process_is_killed(tmp_path):
    with subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        accepted = [process.stdout.readline().strip() for _ in range(40)]
        process.kill()
        accepted += [line.strip() for line in process.stdout if line.endswith("\n")]
    spool = Spool(tmp_path)
    kept = []
    while (oldest := spool.oldest(timeout=0)) is not None:
        kept.append(json.loads(oldest[1])["id"])
        spool.remove(kept[-1])
    spool.close()
    assert spool.dropped == 0
    # The one that was being written may be there too.
    assert kept[: len(accepted)] == accepted and len(kept) <= len(accepted) + 1
