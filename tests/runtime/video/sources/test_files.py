import os
import re

import cv2
import pytest

from pumpseg.errors import SourceError
from pumpseg.video.sources.files import find_files, is_file_like


@pytest.fixture
def folder(tmp_path, square_frame):
    for name in ("b.jpg", "a.png", "c.PNG"):
        cv2.imwrite(str(tmp_path / name), square_frame)
    (tmp_path / "notes.md").write_text("no image")
    return tmp_path


def test_a_list_of_files(folder, make_clip):
    (folder / "more").mkdir()
    make_clip(folder / "more" / "clip.mp4", frames=2)
    (folder / "list.txt").write_text(f"# mine\n\na.png\n  *.jpg\nmore\n{folder / 'c.PNG'}\n", encoding="utf-8")
    found = find_files([folder / "list.txt"])
    assert [file.path.name for file in found] == ["a.png", "b.jpg", "clip.mp4", "c.PNG"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png\nmissing.png\n", "line 2 of .*list.txt: no such file or folder: .*missing.png"),
        ("webcam\n", "line 1 of .*: webcam is not a file: only files"),
        ("rtsp://a:b@c/d\n", "rtsp://c/d is not a file: only files"),
        ("list.txt\n", "is a list itself"),
        ("# nothing\n", "names no files"),
        ("\udcff", "cannot read the list"),
    ],
)
def test_lists_that_cannot_be_used(folder, text, message):
    (folder / "list.txt").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SourceError, match=message):
        find_files([folder / "list.txt"])


def test_results_keep_the_folders_below_what_was_named(folder, make_clip):
    for name in ("x/one.mp4", "x/y/one.mp4"):
        (folder / name).parent.mkdir(exist_ok=True)
        make_clip(folder / name, frames=1)
    (folder / "x" / ".part-7-one.mp4").touch()
    places = {str(file.path.relative_to(folder)): str(file.place) for file in find_files([f"{folder}/x/**/*.mp4"])}
    assert places == {"x/one.mp4": "one.mp4", "x/y/one.mp4": "y/one.mp4"}
    assert [str(file.place) for file in find_files([folder / "x", folder / "a.png"])] == ["one.mp4", "a.png"]


def names(*given, results=None):
    return [file.path.name for file in find_files(given, results)]


def test_a_folder_gives_what_is_an_image_or_video_whatever_its_name(folder, make_clip, caplog):
    make_clip(folder / "e.VOB", 2, codec="mpeg2video", container_format="vob")
    make_clip(folder / "f", 2, container_format="mp4")
    for name, content in (("Thumbs.db", b"\xd0\xcf\x11\xe0" + bytes(600)), ("a.json", b"{}"), ("b.wav", b"RIFF")):
        (folder / name).write_bytes(content)
    (folder / "IMG_1.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    os.mkfifo(folder / "g.mp4")
    assert names(folder) == ["a.png", "b.jpg", "c.PNG", "e.VOB", "f", "g.mp4"]  # the batch refuses a pipe by itself
    assert re.search(r"left out: 1 files of formats that cannot be read, such as .*IMG_1\.heic", caplog.text)


def test_brackets_are_part_of_a_name_where_they_match_nothing(tmp_path, square_frame):
    for name in ("shoot [day 1]/x/a.jpg", "d[1]/b.jpg", "d1/c.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / name), square_frame)
    (found,) = find_files([f"{tmp_path}/shoot [day 1]/**/*.jpg"])
    assert (found.path.name, str(found.place)) == ("a.jpg", "x/a.jpg")
    assert names(f"{tmp_path}/d[1]/*.jpg") == ["c.jpg"]
    (tmp_path / "list.txt").write_text("shoot [day 1]/x/*.jpg\n")
    assert names(tmp_path / "list.txt") == ["a.jpg"]
    with pytest.raises(SourceError, match="matches nothing"):
        find_files([f"{tmp_path}/shoot [day 1]/*.png"])


def test_a_pipe_is_a_source_of_its_own(tmp_path):
    os.mkfifo(tmp_path / "pipe.ts")
    assert not is_file_like(tmp_path / "pipe.ts")
    assert is_file_like("x" * 5000)
    for name in ("-", str(tmp_path / "pipe.ts")):
        with pytest.raises(SourceError, match="is a pipe: only files"):
            find_files([name])
