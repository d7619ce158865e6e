import os
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import pytest

from pumpseg.errors import SourceError
from pumpseg.video.sources import open as sources
from pumpseg.video.sources.images import ImageSource
from pumpseg.video.sources.open import open_source
from pumpseg.video.sources.video_file import VideoSource


@pytest.fixture
def folder(tmp_path, square_frame):
    for name in ("b.jpg", "a.png", "c.PNG"):
        cv2.imwrite(str(tmp_path / name), square_frame)
    (tmp_path / "notes.md").write_text("no image")
    return tmp_path


def test_a_folder_gives_its_images_by_name(folder):
    source = open_source(folder)
    assert [frame.source for frame in source] == [str(folder / name) for name in ("a.png", "b.jpg", "c.PNG")]
    assert source.length == 3


def test_a_pattern_of_images(folder):
    source = open_source(f"{folder}/*.[pj]*g")
    assert isinstance(source, ImageSource)
    assert len(list(source)) == 2


def test_a_pattern_that_matches_one_video(tmp_path, make_clip):
    make_clip(tmp_path / "one.mp4", frames=3)
    assert isinstance(open_source(f"{tmp_path}/*.mp4"), VideoSource)
    make_clip(tmp_path / "two.mp4", frames=3)
    with pytest.raises(SourceError, match="2 videos and 0 images"):
        open_source(f"{tmp_path}/*.mp4")


def test_a_file_whose_name_looks_like_a_pattern(tmp_path, square_frame):
    cv2.imwrite(str(tmp_path / "a[1].png"), square_frame)
    assert len(list(open_source(tmp_path / "a[1].png"))) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.mp4", "no such file or folder"),
        ("*.jpeg", "matches nothing"),
        ("*.md", "matches 1 paths but no image or video"),
        ("notes.md", "notes.md is not an image or video that can be read"),
    ],
)
def test_what_cannot_be_a_source(folder, name, message):
    with pytest.raises(SourceError, match=message):
        open_source(folder / name)


def test_an_empty_folder(tmp_path):
    with pytest.raises(SourceError, match="has no images or videos"):
        open_source(tmp_path)


def test_the_demo(tmp_path, monkeypatch, make_clip):
    monkeypatch.setattr(sources, "DEMO_CLIP", tmp_path / "demo.mp4")
    with pytest.raises(SourceError, match="demo clip is missing"):
        open_source("demo")
    make_clip(tmp_path / "demo.mp4", frames=2)
    assert [frame.source for frame in open_source("demo")] == ["demo", "demo"]


def test_images_named_one_by_one_are_one_source(folder):
    source = open_source(folder / "c.PNG", folder / "a.png", folder / "c.PNG")
    assert [frame.source for frame in source] == [str(folder / "c.PNG"), str(folder / "a.png")]


def test_a_list_of_images_is_one_source(folder):
    (folder / "images.txt").write_text("a.png\nb.jpg\n", encoding="utf-8")
    assert len(list(open_source(folder / "images.txt"))) == 2


def test_a_named_pipe_is_read_as_it_comes(tmp_path, make_clip, caplog):
    clip = make_clip(tmp_path / "clip.ts", audio="aac")
    pipe = tmp_path / "camera.ts"
    os.mkfifo(pipe)
    feeder = threading.Thread(target=lambda: pipe.write_bytes(clip.read_bytes()))
    feeder.start()
    with open_source(pipe) as source:
        assert len(list(source)) == 20
        assert (source.inputs, source.audio) == ((), None)
    feeder.join()
    assert "is read once, so its audio is left out" in caplog.text


@pytest.mark.parametrize(
    ("name", "frames", "said"),
    [
        ("clip.mkv", 20, ""),
        ("image.png", 1, ""),
        ("notes.txt", 0, "standard input "),
        ("empty", 0, "standard input cannot be read as a video"),
    ],
)
def test_standard_input(tmp_path, make_clip, square_frame, name, frames, said):
    make_clip(tmp_path / "clip.mkv")
    cv2.imwrite(str(tmp_path / "image.png"), square_frame)
    (tmp_path / "notes.txt").write_text("a,b\n1,2\n" * 100)
    (tmp_path / "empty").touch()
    code = """
from pumpseg import open_source
from pumpseg.errors import SourceError
try:
    print(len(list(open_source("-"))))
except SourceError as error:
    print(0, error)
"""
    content = (tmp_path / name).read_bytes()
    done = subprocess.run([sys.executable, "-c", code], input=content, capture_output=True, check=True)
    count, _, error = done.stdout.decode().strip().partition(" ")
    assert int(count) == frames
    assert error.startswith(said)


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="a device of Unix")
def test_a_device_is_not_a_file():
    with pytest.raises(SourceError, match="/dev/null is a device or socket, not a file"):
        open_source("/dev/null")
