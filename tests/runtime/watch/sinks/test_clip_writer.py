import dataclasses
import subprocess
import sys
from fractions import Fraction

import av
import pytest
from counted_stream import FPS, encode, fill, numbers_in

from pumpseg.errors import SinkError
from pumpseg.video.sources.packet_ring import PacketRing
from pumpseg.watch.sinks.clip_writer import ClipWriter, annex_b, length_bytes, parameter_sets


@pytest.fixture
def write_clip(tmp_path):
    def write(stream, change=lambda packet: packet, name="clip.mp4"):
        ring = PacketRing(1000)
        fill(ring, stream, newest=100.0)
        packets = [change(packet) for packet in ring.read(0, 0)]
        writer = ClipWriter(tmp_path / name, packets[0])
        for packet in packets:
            writer.write(packet)
        writer.complete()
        assert writer.frames == len(packets)
        return tmp_path / name

    return write


@pytest.mark.parametrize("global_header", [False, True])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_h264_is_copied_with_its_times(write_clip, global_header, b_frames):
    stream = encode(30, global_header=global_header, b_frames=b_frames)
    path = write_clip(stream)
    seen = numbers_in(path)
    assert [number for _, number in seen] == list(range(30))
    assert [seconds for seconds, _ in seen] == pytest.approx([seen[0][0] + i / FPS for i in range(30)], abs=0.001)
    assert seen[0][0] <= 2 / FPS
    with av.open(str(path)) as container:
        sizes = [packet.size for packet in container.demux(video=0) if packet.size]
        assert container.streams.video[0].codec_context.name == "h264"
    # The same units, whose start codes became lengths: nothing was encoded again.
    assert sum(sizes) == pytest.approx(sum(len(data) for data, *_ in stream[1]), rel=0.1)


def test_h264_with_lengths_is_copied_too(write_clip, tmp_path):
    with av.open(str(write_clip(encode(30), name="lengths.mp4"))) as container:
        video = container.streams.video[0]
        assert length_bytes(video.codec_context.extradata) == 4
        stream_format = dataclasses.replace(
            encode(1)[0], extradata=video.codec_context.extradata, time_base=video.time_base
        )
        packets = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in container.demux(video) if p.size]
    seen = numbers_in(write_clip((stream_format, packets)))
    assert [number for _, number in seen] == list(range(30))


@pytest.mark.parametrize("codec", ["libx265", "mjpeg"])
def test_other_codecs_become_h264(write_clip, codec):
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    path = write_clip(encode(20, codec))
    seen = numbers_in(path)
    assert [number for _, number in seen] == list(range(20))
    assert [seconds for seconds, _ in seen] == pytest.approx([i / FPS for i in range(20)], abs=0.001)
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"


def test_without_times_those_of_arrival_count(write_clip):
    seen = numbers_in(write_clip(encode(20, gop=1), lambda packet: dataclasses.replace(packet, pts=None, dts=None)))
    assert [seconds for seconds, _ in seen] == pytest.approx([i / FPS for i in range(20)], abs=0.001)


@pytest.mark.parametrize("jump", [-90_000 * 1000, 90_000 * 3600, -90_000 * 3 // FPS])
def test_a_camera_that_sets_its_clock_does_not_shift_the_clip(write_clip, jump):
    def change(packet):
        return (
            packet if packet.number < 10 else dataclasses.replace(packet, pts=packet.pts + jump, dts=packet.dts + jump)
        )

    seen = numbers_in(write_clip(encode(20), change))
    assert [number for _, number in seen] == list(range(20))
    assert [seconds for seconds, _ in seen] == pytest.approx([i / FPS for i in range(20)], abs=0.001)


def test_damaged_packets_are_left_out_or_copied_but_end_nothing(tmp_path):
    for codec in ("libx264", "mjpeg"):
        ring = PacketRing(1000)
        fill(ring, encode(20, codec), newest=100.0)
        packets = ring.read(0, 0)
        writer = ClipWriter(tmp_path / f"{codec}.mp4", packets[0])
        for packet in packets:
            writer.write(dataclasses.replace(packet, data=b"\0" * 50) if packet.number == 5 else packet)
        writer.complete()
        assert numbers_in(tmp_path / f"{codec}.mp4")[0][1] == 0


def test_what_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path):
    ring = PacketRing(1000)
    fill(ring, encode(1), newest=100.0)
    (first,) = ring.read(0, 0)
    with pytest.raises(SinkError, match=r"cannot write .*none"):
        ClipWriter(tmp_path / "none" / "clip.mp4", first)
    garbage = dataclasses.replace(first, data=b"no video at all")
    with pytest.raises(SinkError, match=r"cannot write .*clip\.mp4"):
        ClipWriter(tmp_path / "clip.mp4", garbage)
    assert list(tmp_path.iterdir()) == []


def test_a_clip_that_cannot_be_completed_is_kept(tmp_path):
    ring = PacketRing(1000)
    fill(ring, encode(30), newest=100.0)
    packets = ring.read(0, 0)
    writer = ClipWriter(tmp_path / "clip.mp4", packets[0])
    for packet in packets:
        writer.write(packet)
    assert writer.recover() == tmp_path / "clip.recovered-1.mp4"
    assert len(numbers_in(tmp_path / "clip.recovered-1.mp4")) == 30


KILLED = """
import sys
from pathlib import Path
from counted_stream import encode, fill
from pumpseg.video.sources.packet_ring import PacketRing
from pumpseg.watch.sinks.clip_writer import ClipWriter

ring = PacketRing(1000)
fill(ring, encode(100), newest=100.0)
packets = ring.read(0, 0)
writer = ClipWriter(Path(sys.argv[1]), packets[0])
for packet in packets:
    writer.write(packet)
print("written", flush=True)
sys.stdin.read()
"""


def test_the_clip_of_a_killed_process_is_kept_and_can_be_played(tmp_path, write_clip):
    path = tmp_path / "killed.mp4"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    helpers = [folder for folder in sys.path if folder.endswith("helpers")]
    code = f"import sys; sys.path += {helpers!r}\n{KILLED}"
    with subprocess.Popen([sys.executable, "-c", code, path], text=True, **pipes) as process:
        assert process.stdout.readline() == "written\n"
        process.kill()
    write_clip(encode(1), name="next.mp4")
    seen = numbers_in(tmp_path / "killed.recovered-1.mp4")
    # All but about the last second.
    assert len(seen) >= 70 and seen[0][1] == 0


def test_units_and_parameter_sets_of_both_forms():
    avcc = bytes([1, 66, 0, 30, 0xFF, 0xE1, 0, 2, 0x67, 9, 1, 0, 1, 0x68])
    assert length_bytes(avcc) == 4
    assert parameter_sets(avcc) == b"\0\0\0\1\x67\x09\0\0\0\1\x68"
    assert annex_b(b"\0\0\0\2ab\0\0\0\1c", 4) == b"\0\0\0\1ab\0\0\0\1c"
    plain = b"\0\0\0\1\x67\x09"
    assert (length_bytes(plain), parameter_sets(plain), annex_b(plain, 0)) == (0, plain, plain)
    assert parameter_sets(avcc[:9]) == b"\0\0\0\1\x67"


def test_a_stream_of_an_odd_size_and_rate_is_encoded(write_clip):
    stream_format, packets = encode(5, "mjpeg")
    odd = dataclasses.replace(stream_format, size=(127, 63), rate=Fraction(90_000))
    assert [number for _, number in numbers_in(write_clip((odd, packets)))] == list(range(5))
