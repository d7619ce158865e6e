import os
import time

import pytest

from pumpseg.errors import OptionError, SinkError
from pumpseg.watch.retention import Retention


@pytest.fixture
def make_file(tmp_path):
    def make(name, size=10, age=0.0):
        path = tmp_path / name
        path.write_bytes(bytes(size))
        os.utime(path, (time.time() - age,) * 2)
        return path

    return make


def test_the_oldest_files_go_beyond_the_bytes(tmp_path, make_file):
    retention = Retention(tmp_path, (".jpg",), max_bytes=25, max_age=1000)
    for name in ("c.jpg", "a.jpg"):
        assert retention.add(make_file(name)) == []
    assert [path.name for path in retention.add(make_file("b.jpg"))] == ["c.jpg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "b.jpg"]
    assert retention.size == 20
    assert len(retention.add(make_file("d.jpg", size=100))) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["d.jpg"]


def test_old_files_go_at_the_start_and_others_are_left_alone(tmp_path, make_file):
    for name, age in (("old.jpg", 50), ("new.jpg", 1), ("notes.txt", 50), ("older.png", 90)):
        make_file(name, age=age)
    retention = Retention(tmp_path, (".jpg", ".png"), max_bytes=1e6, max_age=20)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.jpg", "notes.txt"]
    assert (retention.size, [path.name for path in retention.files]) == (10, ["new.jpg"])


def test_a_file_written_again_counts_once_and_a_file_that_is_gone_does_not_count(tmp_path, make_file):
    retention = Retention(tmp_path, (".jpg",), max_bytes=1000, max_age=1000)
    for size in (10, 30):
        retention.add(make_file("a.jpg", size))
    assert retention.size == 30
    retention.add(tmp_path / "gone.jpg")
    (tmp_path / "a.jpg").unlink()
    retention.remove(tmp_path / "a.jpg")
    assert retention.size == 0


def test_what_a_killed_process_left_is_removed(tmp_path, make_file):
    make_file(".part-1-a.jpg")
    Retention(tmp_path, (".jpg",), max_bytes=1000, max_age=1000)
    assert list(tmp_path.iterdir()) == []


def test_limits_and_folders_that_cannot_be_used_are_refused(tmp_path, make_file):
    with pytest.raises(OptionError, match="need more than 0 bytes"):
        Retention(tmp_path, (".jpg",), max_bytes=0, max_age=1)
    with pytest.raises(SinkError, match=r"cannot use the folder .*file\.jpg"):
        Retention(make_file("file.jpg"), (".jpg",), max_bytes=1, max_age=1)
