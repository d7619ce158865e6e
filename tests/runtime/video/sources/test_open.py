import cv2
import pytest

from pumpseg.errors import SourceError
from pumpseg.video.sources import open as sources
from pumpseg.video.sources.images import ImageSource
from pumpseg.video.sources.open import find_files, open_source
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
        ("notes.md", "notes.md has an unknown format .md; images: .bmp"),
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


def test_a_list_of_files(folder, make_clip):
    (folder / "more").mkdir()
    make_clip(folder / "more" / "clip.mp4", frames=2)
    (folder / "list.txt").write_text(f"# mine\n\na.png\n  *.jpg\nmore\n{folder / 'c.PNG'}\n", encoding="utf-8")
    found = find_files([folder / "list.txt"])
    assert [file.path.name for file in found] == ["a.png", "b.jpg", "clip.mp4", "c.PNG"]
    (folder / "images.txt").write_text("a.png\nb.jpg\n", encoding="utf-8")
    assert len(list(open_source(folder / "images.txt"))) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png\nmissing.png\n", "line 2 of .*list.txt: no such file or folder: .*missing.png"),
        ("webcam\n", "line 1 of .*: webcam is not a file: only files"),
        ("rtsp://a:b@c/d\n", r"rtsp://a:\*\*\*@c/d is not a file: only files"),
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
