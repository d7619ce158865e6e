"""A folder appears under its name only when everything is in it."""

import subprocess
import sys

import pytest

from pumpseg.errors import DatasetError
from pumpseg_train.dataset.atomic_folder import atomic_folder, place_photos
from pumpseg_train.dataset.labelled_set import Photo


def test_a_new_folder_appears_at_the_end(tmp_path):
    out = tmp_path / "deep" / "out"
    with atomic_folder(out) as unfinished:
        (unfinished / "a.txt").write_text("a")
        assert not out.exists()
    assert [path.name for path in out.iterdir()] == ["a.txt"]
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_an_empty_folder_is_filled_where_it_is(tmp_path):
    inode = tmp_path.stat().st_ino
    with atomic_folder(tmp_path) as unfinished:
        (unfinished / "a.txt").write_text("a")
    assert tmp_path.stat().st_ino == inode
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_nothing_is_left_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "out") as unfinished:
        (unfinished / "a.txt").write_text("a")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_refused_before_the_work(tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(DatasetError, match="is not an empty folder"), atomic_folder(tmp_path):
        raise AssertionError("the work began")


def test_an_error_while_writing_names_the_folder(tmp_path):
    with (
        pytest.raises(DatasetError, match=rf"cannot write {tmp_path / 'out'}: No space left"),
        atomic_folder(tmp_path / "out"),
    ):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("link", [False, True])
def test_images_of_one_name_are_kept_apart(tmp_path, link):
    photos = []
    for folder, name in (("x", "a.png"), ("y", "A.jpg"), ("z", "a.png")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(folder)
        photos.append(Photo(tmp_path / folder / name, 8, 8))
    placed = list(place_photos(photos, tmp_path / "out", link=link))
    assert placed == list(zip(photos, ["a.png", "A-2.jpg", "a-3.png"], strict=True))
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {
        "a.png": "x",
        "A-2.jpg": "y",
        "a-3.png": "z",
    }
    assert (tmp_path / "out" / "a.png").samefile(tmp_path / "x" / "a.png") == link


KILLED = """
import os, signal, sys
from pathlib import Path
from pumpseg_train.dataset.atomic_folder import atomic_folder

with atomic_folder(Path(sys.argv[1])) as folder:
    (folder / "half.txt").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("there", [False, True])
def test_what_a_killed_process_left_is_removed(there, tmp_path):
    out = tmp_path / "out"
    if there:
        out.mkdir()
    assert subprocess.run([sys.executable, "-c", KILLED, str(out)], check=False).returncode < 0
    assert len(list((out if there else tmp_path).iterdir())) == 1
    with atomic_folder(out) as folder:
        (folder / "whole.txt").touch()
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["out", "out/whole.txt"]
