from itertools import pairwise

import av
import pytest

from pumpseg.video.sources.clock import Clock

WRAP = 1000 * (1 << 33) // 90000  # ms after which the clock of a transport stream starts again


@pytest.fixture
def recording(tmp_path, make_clip):
    """A transport stream, or program stream, of 20 frames and sound that begins at a time in ms."""

    def make(start=0, name="part.ts", **options):
        make_clip(tmp_path / name, pts=[start + 40 * i for i in range(20)], **options)
        return (tmp_path / name).read_bytes()

    return make


def times(path):
    """Decoding times of picture and sound in seconds, and the number of jumps."""
    found = {"video": [], "audio": []}
    with av.open(str(path)) as container:
        clock = Clock(container)
        for packet in clock.packets(*container.streams.video, *container.streams.audio):
            if packet.dts is not None:
                found[packet.stream.type].append(float(packet.dts * packet.time_base))
    return found["video"], found["audio"], clock.jumps


def grows(moments):
    return all(later > earlier for earlier, later in pairwise(moments))


@pytest.mark.parametrize("starts", [(0, 0, 0), (3_600_000, 10_000), (0, 60_000)])
def test_joined_recordings_follow_each_other(tmp_path, recording, starts):
    (tmp_path / "joined.ts").write_bytes(b"".join(recording(start) for start in starts))
    picture, _, jumps = times(tmp_path / "joined.ts")
    assert jumps == len(starts) - 1
    assert grows(picture)
    assert len(picture) == 20 * len(starts)
    assert picture[-1] - picture[0] == pytest.approx(0.8 * len(starts), abs=0.1)


def test_sound_is_shifted_by_as_much_as_the_picture(tmp_path, recording):
    part = recording(audio="aac")
    (tmp_path / "joined.ts").write_bytes(3 * part)
    picture, sound, jumps = times(tmp_path / "joined.ts")
    (tmp_path / "one.ts").write_bytes(part)
    one_picture, one_sound, none = times(tmp_path / "one.ts")
    assert (jumps, none) == (2, 0)
    assert grows(picture)
    assert sound[-1] - picture[-1] == pytest.approx(one_sound[-1] - one_picture[-1], abs=0.001)


def test_a_short_gap_stays(tmp_path, recording):
    (tmp_path / "gap.ts").write_bytes(recording() + recording(6000))
    picture, _, jumps = times(tmp_path / "gap.ts")
    assert jumps == 0
    assert picture[20] - picture[19] > 5


def test_a_format_with_one_clock_is_left_as_it_is(tmp_path, make_clip):
    clip = make_clip(tmp_path / "pause.mp4", pts=[0, 40, 60_000, 60_040])
    picture, _, jumps = times(clip)
    assert jumps == 0
    assert picture[-1] > 59


def test_sound_that_pauses_has_not_jumped(tmp_path, make_clip):
    """A silent stretch of more than ten seconds, as of a camera whose microphone is switched off."""
    make_clip(tmp_path / "whole.mkv", pts=[200 * i for i in range(100)], audio="aac")
    with av.open(str(tmp_path / "whole.mkv")) as source, av.open(str(tmp_path / "pause.ts"), "w") as target:
        copies = [target.add_stream_from_template(stream) for stream in source.streams]
        for packet in source.demux():
            silent = packet.stream.type == "audio" and packet.dts is not None and 3 < packet.dts * packet.time_base < 17
            if packet.dts is not None and not silent:
                packet.stream = copies[packet.stream_index]
                target.mux(packet)
    _, sound, jumps = times(tmp_path / "pause.ts")
    assert jumps == 0
    assert sound[-1] - sound[0] > 18
