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


def test_orphans_of_a_killed_process_are_removed(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / f".part-{gone.pid}-out.jsonl").write_text("half", encoding="utf-8")
    (tmp_path / f".part-{gone.pid}-other.jsonl").touch()
    (tmp_path / f".part-{os.getppid()}-out.jsonl").touch()
    PartialFile(tmp_path / "out.jsonl").discard()
    kept = {f".part-{gone.pid}-other.jsonl", f".part-{os.getppid()}-out.jsonl"}
    assert {path.name for path in tmp_path.iterdir()} == kept


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
