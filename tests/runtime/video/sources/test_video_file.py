import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pumpseg.errors import PumpsegError, SourceError
from pumpseg.video.sources.video_file import VideoSource


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
    # libav gives the turn counter-clockwise, as numpy does.
    assert abs(np.rot90(upright, turn // 90).astype(int) - frame.image).max() < 8
    assert turn % 360 == rotation % 360


def test_a_text_file_named_mp4(tmp_path, capfd):
    (tmp_path / "text.mp4").write_text("not a video at all\n" * 50)
    with pytest.raises(SourceError, match=r"text\.mp4 cannot be read as a video"):
        VideoSource(tmp_path / "text.mp4")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("suffix", "old", "new"), [(".mp4", b"avc1", b"xyz1"), (".mkv", b"V_MPEG4/ISO", b"V_MPEG9/ISO")]
)
def test_a_codec_that_nothing_decodes(tmp_path, make_clip, suffix, old, new):
    """opencv/opencv#29722: the frame count is there, frames never come."""
    content = make_clip(tmp_path / f"clip{suffix}").read_bytes()
    place = content.rindex(old)  # in MP4 the word is also a brand at the head of the file
    (tmp_path / f"x{suffix}").write_bytes(content[:place] + new + content[place + len(old) :])
    with pytest.raises(SourceError, match="a codec that FFmpeg does not know"):
        VideoSource(tmp_path / f"x{suffix}")


def test_b_frames_in_avi_come_at_even_times(tmp_path, make_clip):
    clip = make_clip(tmp_path / "b.avi", 40, encoding={"preset": "veryfast", "bf": "3", "b-adapt": "0"})
    times = [frame.time for frame in VideoSource(clip)]
    assert times == pytest.approx([0.04 * i for i in range(40)])


def test_a_name_with_a_colon_is_a_file(tmp_path, make_clip, monkeypatch):
    make_clip(tmp_path / "12:30:05.mp4", 3, audio="aac")
    monkeypatch.chdir(tmp_path)
    with VideoSource("12:30:05.mp4") as source:
        assert len(list(source)) == 3
        assert source.audio == Path("12:30:05.mp4")


@pytest.mark.parametrize(("rotation", "expected"), [(None, Fraction(4, 3)), (90, Fraction(3, 4))])
def test_the_shape_of_pixels_is_turned_with_the_picture(tmp_path, make_clip, rotation, expected):
    def prepare(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)

    clip = make_clip(tmp_path / "dv.mp4", 2, rotation=rotation, prepare=prepare)
    assert {frame.pixel_aspect for frame in VideoSource(clip)} == {expected}


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


def damage(path, target, numbers):
    """A copy of a clip in which the picture packets of these numbers are noise behind their headers."""
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    for number in numbers:
        start, size = places[number][0] + 24, places[number][1] - 24
        content[start : start + size] = np.random.default_rng(number).bytes(size)
    target.write_bytes(content)
    return target


@pytest.fixture(scope="module")
def grainy(tmp_path_factory):
    """A clip whose packets are large enough to be damaged in their middle."""
    path = tmp_path_factory.mktemp("grainy") / "grainy.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "g": "10"})
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        for number in range(60):
            picture = np.random.default_rng(number).integers(0, 99, (64, 96, 3), np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(video.encode())
    return path


@pytest.mark.parametrize("numbers", [[35], [20], [12, 34, 51]])
def test_frames_behind_damaged_packets_are_read_and_the_damage_is_counted(grainy, tmp_path, numbers, caplog):
    frames = list(VideoSource(damage(grainy, tmp_path / "hurt.mp4", numbers)))
    assert 50 <= len(frames) <= 60
    assert frames[-1].time == pytest.approx(59 / 25)
    assert re.search(r"hurt\.mp4: \d+ of \d+ (packets|frames) are damaged", caplog.text)


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


def test_garbage_behind_a_whole_mp4_is_not_cut_short(tmp_path, make_clip):
    path = make_clip(tmp_path / "tail.mp4")
    path.write_bytes(path.read_bytes() + b"\xff" * 100)
    assert len(list(VideoSource(path))) == 20


def test_a_missing_pyav_names_the_extra(clip, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(PumpsegError, match=r'pip install "pumpseg\[video\]"'):
        VideoSource(clip)


def write_ts(path, codec, size, frames=30):
    with av.open(str(path), "w", format="mpegts") as container:
        video = container.add_stream(codec, rate=25, options={"g": "10"})
        video.height, video.width, video.pix_fmt = *size, "yuv420p"
        for i in range(frames):
            picture = np.full((*size, 3), 8 * i, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(video.encode())
    return path.read_bytes()


def test_a_codec_that_changes_midway_is_an_error(tmp_path):
    first = write_ts(tmp_path / "a.ts", "libx264", (64, 96))
    (tmp_path / "both.ts").write_bytes(first + write_ts(tmp_path / "b.ts", "mpeg2video", (64, 96)))
    seen = []
    with pytest.raises(SourceError, match=r"changes its codec midway: it ends after frame \d+"):
        seen.extend(frame.index for frame in VideoSource(tmp_path / "both.ts"))
    # The last ones may go down with the first packet that makes no sense.
    assert seen == list(range(len(seen)))
    assert 27 <= len(seen) <= 30


def test_a_size_that_changes_midway(tmp_path):
    first = write_ts(tmp_path / "a.ts", "libx264", (64, 96))
    (tmp_path / "both.ts").write_bytes(first + write_ts(tmp_path / "b.ts", "libx264", (128, 160)))
    frames = list(VideoSource(tmp_path / "both.ts"))
    assert [frame.image.shape for frame in frames] == [(64, 96, 3)] * 30 + [(128, 160, 3)] * 30
    times = [frame.time for frame in frames]
    assert times == sorted(set(times))


def test_a_video_is_closed_after_the_with_block(clip):
    with VideoSource(clip) as source:
        assert next(iter(source)).index == 0
    with pytest.raises(Exception, match="Container is not open"):
        list(source)
