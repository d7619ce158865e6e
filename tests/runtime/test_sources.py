import re
import threading
import time
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from pumpseg import camera, sources
from pumpseg.container import promised_bytes
from pumpseg.errors import PumpsegError, SourceError
from pumpseg.sources import ImageSource, open_source
from pumpseg.video_source import VideoSource


@pytest.fixture
def folder(tmp_path, square_frame):
    for name in ("b.jpg", "a.png", "c.PNG"):
        cv2.imwrite(str(tmp_path / name), square_frame)
    (tmp_path / "notes.txt").write_text("no image")
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
        ("*.txt", "matches 1 paths but no image"),
        ("notes.txt", "unknown format .txt; images: .bmp"),
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
    with pytest.raises(SourceError, match=r"is damaged: it ends after frame \d+ of 60"):
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


class FakeCapture:
    """A camera of `frames` frames, one every `interval` seconds, that then fails as told."""

    def __init__(self, frames, interval=0.0, failure=None):
        self.left, self.interval, self.failure = frames, interval, failure
        self.released = threading.Event()
        self.number = 0

    def isOpened(self):  # noqa: N802
        return True

    def get(self, _):
        return 30.0

    def read(self):
        time.sleep(self.interval)
        if self.number == self.left:
            if self.failure:
                raise self.failure
            return False, None
        self.number += 1
        return True, np.full((4, 4, 3), self.number, np.uint8)

    def release(self):
        self.released.set()


@pytest.fixture
def fake_camera(monkeypatch):
    def make(**options):
        capture = FakeCapture(**options)
        monkeypatch.setattr(camera, "_open_capture", lambda device: capture)
        return capture

    return make


def test_a_camera_gives_the_newest_frame_and_counts_the_others(fake_camera):
    fake_camera(frames=1000, interval=0.005)
    source = open_source("webcam:3")
    assert source.live
    frames = iter(source)
    first = next(frames)
    time.sleep(0.2)
    second = next(frames)
    source.close()
    assert (first.index, second.index) == (0, 1)
    assert int(second.image[0, 0, 0]) > int(first.image[0, 0, 0]) + 5
    assert source.dropped > 5
    assert second.time > 0.1
    assert second.pts == pytest.approx(1000 * second.time, abs=1)


def test_a_camera_that_stops_is_an_error(fake_camera):
    fake_camera(frames=0)
    with pytest.raises(SourceError, match="webcam stopped giving frames"):
        list(open_source("webcam"))


def test_an_exception_of_the_reader_is_raised_where_frames_are_taken(fake_camera):
    fake_camera(frames=0, failure=RuntimeError("driver"))
    with pytest.raises(RuntimeError, match="driver"):
        list(open_source("webcam"))


def test_closing_a_camera_ends_its_iteration(fake_camera):
    capture = fake_camera(frames=10**6, interval=0.01)
    source = open_source("webcam")
    threading.Timer(0.1, source.close).start()
    assert list(source)
    assert capture.released.wait(5)


def test_a_camera_that_is_not_there(capfd):
    with pytest.raises(SourceError, match="webcam:87 cannot be opened"):
        open_source("webcam:87")
    assert capfd.readouterr() == ("", "")
