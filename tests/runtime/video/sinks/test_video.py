import contextlib
import itertools
import os
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from pumpseg import Segmenter
from pumpseg.errors import SinkError
from pumpseg.video.sinks.video import VideoSink
from pumpseg.video.sources.frame_source import VideoTiming

TIMING = VideoTiming(Fraction(1, 1000), Fraction(25))


@pytest.fixture
def write_video(make_result):
    """Writes a clip whose frames have these moments, in milliseconds."""

    def write(target, moments, size=(64, 96), audio=None, **ending):
        sink = VideoSink(target, TIMING, audio)
        for i, moment in enumerate(moments):
            sink.write(make_result(np.full((*size, 3), (30, 20 * (i % 12), 200), np.uint8), i, moment))
        sink.complete(**ending)

    return write


def read_video(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [(frame.pts * stream.time_base, frame.to_ndarray(format="bgr24")) for frame in container.decode(stream)]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_pts_survive_even_at_a_variable_rate(tmp_path, suffix, write_video):
    moments = [0, 40, 200, 210, 700, 1500, 1501]
    write_video(tmp_path / f"out{suffix}", moments)
    assert [moment for moment, _ in read_video(tmp_path / f"out{suffix}")] == [Fraction(m, 1000) for m in moments]


@pytest.mark.parametrize("size", [(63, 95), (64, 95), (63, 96), (2, 2), (1, 1)])
def test_odd_sizes_are_padded(tmp_path, size, write_video):
    write_video(tmp_path / "out.mp4", [0, 40], size)
    images = [image for _, image in read_video(tmp_path / "out.mp4")]
    assert images[0].shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)


def test_the_video_is_what_players_expect(tmp_path, write_video):
    write_video(tmp_path / "out.mp4", range(0, 400, 40))
    with av.open(str(tmp_path / "out.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
    content = (tmp_path / "out.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_colours_survive(tmp_path, write_video):
    write_video(tmp_path / "out.mp4", [0])
    ((_, image),) = read_video(tmp_path / "out.mp4")
    assert abs(image.astype(int) - (30, 0, 200)).max() <= 4


def audio_packets(path):
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        return stream.codec_context.name, [
            (float(packet.pts * packet.time_base), bytes(packet)) for packet in container.demux(stream) if packet.size
        ]


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "aac"), (".mkv", "libopus"), (".mkv", "flac")])
def test_audio_is_copied_packet_by_packet(tmp_path, make_clip, suffix, codec, write_video):
    source = make_clip(tmp_path / f"in{suffix}", frames=30, audio=codec)
    write_video(tmp_path / "out.mp4", range(0, 1200, 40), audio=source)
    before, after = audio_packets(source), audio_packets(tmp_path / "out.mp4")
    assert after[0] == before[0]
    assert [data for _, data in after[1]] == [data for _, data in before[1]]
    # A codec's priming is stored differently by each container: up to two packets of it.
    np.testing.assert_allclose([t for t, _ in after[1]], [t for t, _ in before[1]], atol=0.08)
    assert len(read_video(tmp_path / "out.mp4")) == 30


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_channels_that_a_container_does_not_name_are_the_usual_ones(tmp_path, make_clip, suffix, write_video):
    source = make_clip(tmp_path / f"in{suffix}", frames=10, audio="pcm_s16le", channels="stereo")
    with av.open(str(source)) as container:
        assert container.streams.audio[0].codec_context.layout.name == "2 channels"
    write_video(tmp_path / "out.mp4", range(0, 400, 40), audio=source)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.audio[0].codec_context.layout.name == "stereo"
    assert b"".join(data for _, data in audio_packets(tmp_path / "out.mp4")[1]) == b"".join(
        data for _, data in audio_packets(source)[1]
    )


def test_audio_ends_with_an_interrupted_video(tmp_path, make_clip, write_video):
    source = make_clip(tmp_path / "in.mp4", frames=50, audio="aac")
    write_video(tmp_path / "out.mp4", range(0, 400, 40), audio=source, interrupted=True)
    assert audio_packets(tmp_path / "out.mp4")[1][-1][0] < 0.5


def test_audio_that_does_not_fit_is_left_out_with_a_warning(tmp_path, make_clip, caplog, write_video):
    source = make_clip(tmp_path / "in.mkv", frames=10, audio="wavpack")
    write_video(tmp_path / "out.mp4", range(0, 400, 40), audio=source)
    assert len(read_video(tmp_path / "out.mp4")) == 10
    assert caplog.messages == ["out.mp4 cannot hold the audio (wavpack), which is left out"]


def test_audio_that_is_gone_is_an_error_and_leaves_nothing(tmp_path, make_result):
    sink = VideoSink(tmp_path / "out.mp4", TIMING, str(tmp_path / "gone.mp4"))
    picture = np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(SinkError, match=r"cannot read the audio of .*gone\.mp4"):
        sink.write(make_result(picture, 0, 0))
    sink.discard()
    assert list(tmp_path.iterdir()) == []


def test_damaged_audio_ends_early_and_the_video_is_whole(tmp_path, make_clip, caplog, write_video):
    source = make_clip(tmp_path / "in.mp4", frames=50, audio="aac", faststart=True)
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 9 // 10])
    write_video(tmp_path / "out.mp4", range(0, 2000, 40), audio=source)
    assert len(read_video(tmp_path / "out.mp4")) == 50


def test_a_video_that_is_given_up_leaves_nothing(tmp_path, make_result):
    sink = VideoSink(tmp_path / "out.mp4", TIMING)
    picture = np.zeros((64, 96, 3), np.uint8)
    sink.write(make_result(picture, 0, 0))
    assert [path.suffix for path in tmp_path.iterdir()] == [".mp4"]
    assert not (tmp_path / "out.mp4").exists()
    sink.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_changes_midway_is_scaled(tmp_path, make_result):
    sink = VideoSink(tmp_path / "out.mp4", TIMING)
    for i, size in enumerate([(64, 96), (32, 48)]):
        picture = np.full((*size, 3), 90, np.uint8)
        sink.write(make_result(picture, i, 40 * i))
    sink.complete()
    assert [image.shape for _, image in read_video(tmp_path / "out.mp4")] == [(64, 96, 3)] * 2


def test_a_size_that_changes_is_logged_once(tmp_path, caplog, make_result):
    sink = VideoSink(tmp_path / "out.mp4", TIMING)
    for i, size in enumerate([(64, 96), (32, 48), (32, 48)]):
        picture = np.full((*size, 3), 90, np.uint8)
        sink.write(make_result(picture, i, 40 * i))
    sink.complete()
    assert caplog.messages == [f"{tmp_path / 'out.mp4'}: the picture changes to 48x32 and is scaled to 96x64"]


@pytest.mark.parametrize("name", ["out.avi", "out", "no/such/folder/out.mp4"])
def test_places_and_formats_that_cannot_be_written(tmp_path, name):
    with pytest.raises(SinkError, match="cannot write"):
        VideoSink(tmp_path / name, TIMING)


def test_av1(tmp_path, capfd, make_result):
    sink = VideoSink(tmp_path / "out.mp4", TIMING, codec="av1")
    moments = [0, 40, 200, 210]
    for i, moment in enumerate(moments):
        picture = np.full((64, 96, 3), 40 * i, np.uint8)
        sink.write(make_result(picture, i, moment))
    sink.complete()
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.name.endswith(("av1", "dav1d"))
    frames = read_video(tmp_path / "out.mp4")
    assert [moment for moment, _ in frames] == [Fraction(m, 1000) for m in moments]
    assert [round(float(image.mean()) / 40) for _, image in frames] == [0, 1, 2, 3]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_no_block_of_a_moving_picture_has_a_wrong_colour(tmp_path, make_result, codec):
    with Segmenter("fast-fp32", provider="cpu") as segmenter:
        pictures = [result.annotated for result in itertools.islice(segmenter.stream("demo"), 60)]
    sink = VideoSink(tmp_path / "out.mp4", TIMING, codec=codec)
    for i, picture in enumerate(pictures):
        sink.write(make_result(picture, i, 40 * i))
    sink.complete()
    wrong = 0
    for picture, (_, written) in zip(pictures, read_video(tmp_path / "out.mp4"), strict=True):
        subsampled = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420), cv2.COLOR_YUV2BGR_I420)
        difference = cv2.absdiff(subsampled, written).max(axis=2)
        blocks = cv2.resize(difference, (picture.shape[1] // 8, picture.shape[0] // 8), interpolation=cv2.INTER_AREA)
        wrong += int((blocks > 40).sum())
    assert wrong < 100  # of 288,000


@pytest.mark.skipif(sys.platform != "linux", reason="real-time priority of Linux")
@pytest.mark.skipif(sys.platform == "linux" and os.geteuid() != 0, reason="only root gets real-time priority")
def test_av1_takes_no_real_time_priority(tmp_path, make_result):
    sink = VideoSink(tmp_path / "out.mp4", TIMING, codec="av1")
    for i in range(20):
        sink.write(make_result(np.full((64, 96, 3), i, np.uint8), i, 40 * i))
    policies = [os.sched_getscheduler(int(thread.name)) for thread in Path("/proc/self/task").iterdir()]
    assert len(policies) > 2
    assert not {os.SCHED_FIFO, os.SCHED_RR} & set(policies)
    sink.complete()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_live_recording_can_be_read_before_it_is_complete(tmp_path, suffix, make_result):
    sink = VideoSink(tmp_path / f"out{suffix}", TIMING, live=True)
    rng = np.random.default_rng(0)
    for i in range(600):
        picture = rng.integers(0, 256, (64, 96, 3), np.uint8)
        sink.write(make_result(picture, i, 40 * i))
    (partial,) = tmp_path.iterdir()
    readable = 0
    with av.open(str(partial)) as container, contextlib.suppress(av.InvalidDataError):
        for _ in container.decode(video=0):
            readable += 1
    assert readable > 200
    sink.complete()
    assert len(read_video(tmp_path / f"out{suffix}")) == 600


@pytest.mark.parametrize(("time_base", "rate"), [(Fraction(1, 1000), Fraction(0)), (Fraction(0), Fraction(25))])
def test_a_rate_of_zero_is_refused(tmp_path, time_base, rate):
    timing = VideoTiming(time_base, rate)
    with pytest.raises(SinkError, match="needs a frame rate above 0"):
        VideoSink(tmp_path / "out.mp4", timing)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_the_shape_of_pixels_is_kept(tmp_path, make_result, suffix):
    sink = VideoSink(tmp_path / f"out{suffix}", TIMING)
    sink.write(make_result(np.zeros((144, 180, 3), np.uint8), 0, 0, pixel_aspect=Fraction(64, 45)))
    sink.complete()
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(64, 45)


def audio_codecs(path):
    with av.open(str(path)) as container:
        return [stream.codec_context.name for stream in container.streams.audio]


def test_audio_that_the_format_cannot_hold_is_left_out_alone(tmp_path, make_clip, write_video, caplog):
    source = make_clip(tmp_path / "in.mkv", audio=("aac", "wavpack"))
    write_video(tmp_path / "out.mp4", range(0, 800, 40), audio=source)
    assert audio_codecs(tmp_path / "out.mp4") == ["aac"]
    assert "out.mp4 cannot hold the audio (wavpack), which is left out" in caplog.text


@pytest.mark.parametrize(("audio", "kept"), [(("aac", "aac"), ["aac"]), ("aac", [])])
def test_audio_of_an_unknown_codec_is_left_out_alone(tmp_path, make_clip, write_video, caplog, audio, kept):
    """Spatial audio of an iPhone, next to plain AAC."""
    source = make_clip(tmp_path / "in.mp4", audio=audio)
    content = bytearray(source.read_bytes())
    place = content.rindex(b"mp4a")
    content[place : place + 4] = b"apac"
    box = content.index(b"esds", place)
    content[box : box + 4] = b"dapa"
    source.write_bytes(content)
    write_video(tmp_path / "out.mp4", range(0, 800, 40), audio=source)
    assert audio_codecs(tmp_path / "out.mp4") == kept
    assert "(unknown codec), which is left out" in caplog.text


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_audio_of_joined_recordings_gets_growing_times(tmp_path, make_clip, write_video, suffix):
    part = make_clip(tmp_path / "part.ts", audio="aac").read_bytes()
    (tmp_path / "joined.ts").write_bytes(2 * part)
    write_video(tmp_path / f"out{suffix}", range(0, 1600, 40), audio=tmp_path / "joined.ts")
    moments = [moment for moment, _ in audio_packets(tmp_path / f"out{suffix}")[1]]
    assert moments == sorted(set(moments))
    assert len(moments) >= 2 * 13


def test_a_name_with_a_colon(tmp_path, write_video, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(Path("13:00.mp4"), [0, 40])
    assert len(read_video(tmp_path / "13:00.mp4")) == 2
