import re
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from pumpseg.errors import PumpsegError, SourceError
from pumpseg.video.sources import open as sources
from pumpseg.video.sources.images import ImageSource
from pumpseg.video.sources.open import find_files, open_source, open_sources
from pumpseg.video.sources.video_file import VideoSource, promised_bytes


@pytest.fixture
def folder(tmp_path, square_frame):
    for name in ("b.jpg", "a.png", "c.PNG"):
        cv2.imwrite(str(tmp_path / name), square_frame)
    (tmp_path / "notes.md").write_text("no image")
    return tmp_path


def test_an_image(folder, square_frame):
    (frame,) = open_source(folder / "a.png")
    np.testing.assert_array_equal(frame.image, square_frame)
    assert (frame.source, frame.index, frame.time) == (str(folder / "a.png"), 0, 0.0)


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
        ("*.md", "matches 1 paths but no image"),
        ("notes.md", "unknown format .md; images: .bmp"),
    ],
)
def test_what_cannot_be_a_source(folder, name, message):
    with pytest.raises(SourceError, match=message):
        open_source(folder / name)


def test_an_empty_folder(tmp_path):
    with pytest.raises(SourceError, match="holds no images"):
        open_source(tmp_path)


@pytest.mark.parametrize("content", [b"", b"text"])
def test_a_damaged_image_is_named(tmp_path, content):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(SourceError, match=r"bad\.png is damaged"):
        list(open_source(tmp_path / "bad.png"))


def test_the_demo(tmp_path, monkeypatch, make_clip):
    monkeypatch.setattr(sources, "DEMO_CLIP", tmp_path / "demo.mp4")
    with pytest.raises(SourceError, match="demo clip is missing"):
        open_source("demo")
    make_clip(tmp_path / "demo.mp4", frames=2)
    assert [frame.source for frame in open_source("demo")] == ["demo", "demo"]


def test_every_frame_of_a_video_in_order(clip):
    source = VideoSource(clip)
    frames = list(source)
    source.close()
    assert source.length == 20
    assert [frame.index for frame in frames] == list(range(20))
    assert [frame.time for frame in frames] == pytest.approx([0.04 * i for i in range(20)])
    lefts = [int(np.argmax(frame.image[24, :, 0] > 128)) for frame in frames]
    assert abs(np.array(lefts) - [3 * i % 48 for i in range(20)]).max() <= 1


def test_a_variable_frame_rate_keeps_its_times(tmp_path, make_clip):
    moments = [0, 40, 200, 210, 700, 1500]
    frames = list(VideoSource(make_clip(tmp_path / "vfr.mp4", pts=moments)))
    assert [frame.time for frame in frames] == pytest.approx([moment / 1000 for moment in moments])


def test_time_starts_at_the_first_frame(tmp_path, make_clip):
    frames = list(VideoSource(make_clip(tmp_path / "late.mkv", pts=[2000, 2040, 2080])))
    assert [frame.time for frame in frames] == pytest.approx([0, 0.04, 0.08])


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_rotation_is_honoured(tmp_path, make_clip, rotation):
    path = make_clip(tmp_path / "turned.mp4", frames=1, size=(64, 128), rotation=rotation)
    with av.open(str(path)) as container:
        turn = round(next(container.decode(video=0)).rotation)
    (frame,) = VideoSource(path)
    upright = next(iter(VideoSource(make_clip(tmp_path / "upright.mp4", frames=1, size=(64, 128))))).image
    # libav tells the turn counter-clockwise, as numpy does.
    assert abs(np.rot90(upright, turn // 90).astype(int) - frame.image).max() < 8
    assert turn % 360 == rotation % 360


def test_a_text_file_named_mp4(tmp_path, capfd):
    (tmp_path / "text.mp4").write_text("this is no video at all\n" * 50)
    with pytest.raises(SourceError, match="no video that can be read"):
        VideoSource(tmp_path / "text.mp4")
    assert capfd.readouterr() == ("", "")


def test_a_file_without_a_picture(tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate, silence.pts, silence.time_base = 16000, 0, Fraction(1, 16000)
        container.mux(stream.encode(silence))
        container.mux(stream.encode())
    with pytest.raises(SourceError, match="no video stream"):
        VideoSource(tmp_path / "sound.mp4")


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def test_an_mp4_cut_before_its_index_cannot_open(tmp_path, make_clip, capfd):
    with pytest.raises(SourceError, match="cut short"):
        VideoSource(cut(make_clip(tmp_path / "cut.mp4"), 0.5))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("share", [0.6, 0.8, 0.97])
def test_an_mp4_cut_in_its_frames_says_how_far_it_reaches(tmp_path, make_clip, share, capfd):
    source = VideoSource(cut(make_clip(tmp_path / "cut.mp4", frames=60, faststart=True), share))
    seen = []
    with pytest.raises(SourceError, match=r"after frame \d+ of 60"):
        seen.extend(frame.index for frame in source)
    source.close()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".mkv", ".avi"])
def test_other_containers_cut_short(tmp_path, make_clip, suffix, capfd):
    whole = make_clip(tmp_path / f"whole{suffix}", frames=60)
    assert promised_bytes(whole) == whole.stat().st_size
    assert len(list(VideoSource(whole))) == 60
    with pytest.raises(SourceError, match="after frame"):
        list(VideoSource(cut(whole, 0.7)))
    assert capfd.readouterr() == ("", "")


def scratch(path, places):
    """Flip bytes of an MP4 file at places inside its coded frames."""
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat")
    for place in places:
        content[start + place] ^= 0xFF
    path.write_bytes(content)
    return path


def test_a_packet_that_cannot_be_decoded_is_an_error(tmp_path, make_clip):
    path = scratch(make_clip(tmp_path / "scratched.mp4", frames=60), range(1000, 3000, 10))
    with pytest.raises(SourceError, match=r"is damaged, or changes its codec.* after frame \d+ of 60"):
        list(VideoSource(path))


def test_frames_decoded_in_part_are_counted(tmp_path, make_clip, caplog):
    path = tmp_path / "scratched.mp4"
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        for _ in range(10):
            container.mux(video.encode(av.VideoFrame.from_ndarray(noise, format="bgr24")))
        container.mux(video.encode())
    frames = list(VideoSource(scratch(path, range(500, 600))))
    assert len(frames) == 10
    assert re.search(r"scratched\.mp4: \d+ of 10 frames are damaged", caplog.text)


def test_a_whole_mp4_has_the_bytes_it_promises(clip):
    assert promised_bytes(clip) == clip.stat().st_size


def test_garbage_behind_a_whole_mp4_is_no_cut(tmp_path, make_clip):
    path = make_clip(tmp_path / "tail.mp4")
    path.write_bytes(path.read_bytes() + b"\xff" * 100)
    assert len(list(VideoSource(path))) == 20


def test_a_missing_pyav_names_the_extra(clip, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(PumpsegError, match=r'pip install "pumpseg\[video\]"'):
        VideoSource(clip)


def test_a_damaged_image_among_several_is_left_out(folder, caplog):
    (folder / "b.jpg").write_bytes(b"text")
    source = open_source(folder)
    assert [frame.source for frame in source] == [str(folder / "a.png"), str(folder / "c.PNG")]
    assert source.failed == 1
    assert caplog.messages == [f"left out: {folder / 'b.jpg'} is damaged, or not an image of a kind that OpenCV reads"]


def test_images_that_are_all_damaged_are_an_error(folder):
    for name in ("a.png", "b.jpg", "c.PNG"):
        (folder / name).write_bytes(b"text")
    with pytest.raises(SourceError, match="damaged"):
        list(open_source(folder))


def test_images_named_one_by_one_are_one_source(folder):
    source = open_sources([folder / "c.PNG", folder / "a.png", folder / "c.PNG"])
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
        ("webcam\n", "line 1 of .*: webcam is no file: only files"),
        ("rtsp://a:b@c/d\n", r"rtsp://a:\*\*\*@c/d is no file: only files"),
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


def write_ts(path, codec, size, frames=30):
    with av.open(str(path), "w", format="mpegts") as container:
        video = container.add_stream(codec, rate=25, options={"g": "10"})
        video.height, video.width, video.pix_fmt = *size, "yuv420p"
        for i in range(frames):
            picture = np.full((*size, 3), 8 * i, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(video.encode())
    return path.read_bytes()


def test_a_codec_that_changes_on_the_way_is_an_error(tmp_path):
    first = write_ts(tmp_path / "a.ts", "libx264", (64, 96))
    (tmp_path / "both.ts").write_bytes(first + write_ts(tmp_path / "b.ts", "mpeg2video", (64, 96)))
    seen = []
    with pytest.raises(SourceError, match=r"changes its codec on the way: it ends after frame \d+"):
        seen.extend(frame.index for frame in VideoSource(tmp_path / "both.ts"))
    # The last ones may go down with the first packet that makes no sense.
    assert seen == list(range(len(seen)))
    assert 27 <= len(seen) <= 30


def test_a_size_that_changes_on_the_way(tmp_path):
    first = write_ts(tmp_path / "a.ts", "libx264", (64, 96))
    (tmp_path / "both.ts").write_bytes(first + write_ts(tmp_path / "b.ts", "libx264", (128, 160)))
    frames = list(VideoSource(tmp_path / "both.ts"))
    assert [frame.image.shape for frame in frames] == [(64, 96, 3)] * 30 + [(128, 160, 3)] * 30
    times = [frame.time for frame in frames]
    assert times == sorted(set(times))
