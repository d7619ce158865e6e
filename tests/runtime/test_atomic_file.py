import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pumpseg.atomic_file import PartialFile, check_names, check_writable, complete_file, write_json, write_text
from pumpseg.errors import SinkError


def test_a_file_appears_when_it_is_complete(tmp_path):
    target = tmp_path / "out.txt"
    target.write_text("old", encoding="utf-8")
    with complete_file(target) as path:
        path.write_text("new", encoding="utf-8")
        assert target.read_text(encoding="utf-8") == "old"
        assert path.suffix == ".txt"
    assert target.read_text(encoding="utf-8") == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failure_leaves_what_was_there(tmp_path):
    write_text(tmp_path / "out.txt", "old")
    with pytest.raises(KeyError), complete_file(tmp_path / "out.txt") as path:
        path.write_text("half", encoding="utf-8")
        raise KeyError
    with pytest.raises(SinkError, match=r"cannot write .*out\.txt: disk full"), complete_file(tmp_path / "out.txt"):
        raise OSError("disk full")
    assert (tmp_path / "out.txt").read_text(encoding="utf-8") == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_json_ends_with_a_line_break(tmp_path):
    write_json(tmp_path / "a.json", {"ü": [1]}, indent=None)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert (json.loads(text), text[-1]) == ({"ü": [1]}, "\n")


def test_a_symbolic_link_is_followed(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "real")
    write_text(tmp_path / "link", "x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "real").read_text(encoding="utf-8") == "x"


def test_a_long_name_keeps_its_suffix(tmp_path):
    target = tmp_path / ("n" * 250 + ".json")
    with complete_file(target) as path:
        assert path.suffix == ".json"
        assert len(path.name) < 255
        path.touch()
    assert target.is_file()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder", "it is a folder"),
        ("none/out.txt", "No such file or directory"),
        ("fifo", "it is not a regular file"),
        ("-", "standard output is not possible here, name a file"),
    ],
)
def test_what_cannot_be_written_fails_at_once(name, message, tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    before = set(tmp_path.iterdir())
    with pytest.raises(SinkError, match=message):
        check_writable(Path("-") if name == "-" else tmp_path / name)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everything")
def test_a_protected_file_is_kept(tmp_path):
    (tmp_path / "a").touch(mode=0o400)
    with pytest.raises(SinkError, match="Permission denied"):
        check_writable(tmp_path / "a")


def test_checking_leaves_no_trace(tmp_path):
    check_writable(tmp_path / "out.txt")
    assert not list(tmp_path.iterdir())


KILLED = """
import os, signal, sys
from pathlib import Path
from pumpseg.atomic_file import PartialFile

for name in sys.argv[1:]:
    PartialFile(Path(name), live=name.endswith(".mp4")).path.write_text("half")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_files_that_the_next_one_removes_and_recordings_that_it_keeps(tmp_path, caplog):
    names = [str(tmp_path / name) for name in ("out.jsonl", "other.jsonl", "rec.mp4")]
    (tmp_path / "rec.recovered-1.mp4").touch()
    assert subprocess.run([sys.executable, "-c", KILLED, *names], check=False).returncode < 0
    assert len(list(tmp_path.glob(".*"))) == 3
    PartialFile(tmp_path / "out.jsonl").discard()
    assert [path.name.split("-", 2)[2] for path in tmp_path.glob(".*")] == ["other.jsonl"]
    assert (tmp_path / "rec.recovered-2.mp4").read_text(encoding="utf-8") == "half"
    assert "an unfinished recording of" in caplog.text


def test_a_file_that_is_being_written_is_left_alone(tmp_path):
    first = PartialFile(tmp_path / "out.txt")
    with pytest.raises(SinkError, match=r"cannot write .*out\.txt: another process writes it"):
        PartialFile(tmp_path / "out.txt")
    first.path.write_text("whole", encoding="utf-8")
    first.complete()
    assert (tmp_path / "out.txt").read_text(encoding="utf-8") == "whole"


def test_what_is_there_of_a_recording_is_kept(tmp_path):
    recording = PartialFile(tmp_path / "rec.mkv", live=True)
    recording.path.write_text("half", encoding="utf-8")
    assert recording.recover() == tmp_path / "rec.recovered-1.mkv"
    assert PartialFile(tmp_path / "rec.mkv", live=True).recover() is None
    assert [path.name for path in tmp_path.iterdir()] == ["rec.recovered-1.mkv"]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(sorted(path.name for path in tmp_path.iterdir())))
    write_text(tmp_path / "out.txt", "x")
    assert synced == [[f".part-{os.getpid()}-out.txt"], ["out.txt"]]


def test_a_full_folder_is_not_listed_for_every_file(tmp_path, monkeypatch):
    listed = []
    for name in ("listdir", "scandir"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda path, real=real: (listed.append(path), real(path))[1])
    for i in range(5):
        with complete_file(tmp_path / f"{i}.png") as path:
            path.touch()
    assert len(listed) == 1


def test_names_that_collide_are_refused(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    check_names([a, b], [tmp_path / "c"])
    with pytest.raises(SinkError, match=r"a is an input: choose another name"):
        check_names([b, tmp_path / "x" / ".." / "a"], [a])
    with pytest.raises(SinkError, match=r"two outputs would be written to .*a$"):
        check_names([a, b, a], [])
    with pytest.raises(SinkError, match="two outputs would be written to standard output"):
        check_names([Path("-"), Path("-")], [])
