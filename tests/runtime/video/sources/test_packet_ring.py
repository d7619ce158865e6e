import threading
import time
from fractions import Fraction

import pytest
from counted_stream import FPS, encode, fill

from pumpseg.errors import OptionError
from pumpseg.video.sources.packet_ring import PacketRing, StreamFormat

FORMAT = StreamFormat("h264", (64, 64), Fraction(25), Fraction(1, 90_000))


@pytest.fixture(scope="module")
def stream():
    return encode(50)


def numbers(ring, start=0):
    return [packet.number for packet in ring.read(start, 0)]


def test_the_last_seconds_are_kept_from_a_key_frame_on(stream):
    ring = PacketRing(seconds=0.5)
    fill(ring, stream, newest=100.0)
    kept = ring.read(0, 0)
    assert kept[0].is_keyframe
    # Half a second, and less than the ten frames of a group of pictures more.
    assert 0.5 <= ring.seconds < 0.5 + 10 / FPS
    assert numbers(ring) == list(range(30, 50))
    assert ring.size == sum(len(packet.data) for packet in kept)


def test_memory_is_bounded_whatever_the_camera_sends():
    ring = PacketRing(seconds=1000, max_bytes=10_000)
    ring.begin(FORMAT)
    for i in range(5000):
        ring.add(bytes(900), i, i, is_keyframe=i % 4 == 0, arrived=float(i))
        assert ring.size <= 10_000
    assert ring.read(0, 0)[0].is_keyframe
    # Key frames so rare that not one group of pictures fits in.
    for i in range(50):
        ring.add(bytes(900), i, i, is_keyframe=False, arrived=5000.0 + i)
        assert ring.size <= 10_000
    with pytest.raises(OptionError, match="max_bytes"):
        PacketRing(1, max_bytes=0)


def test_a_clip_starts_at_the_last_key_frame_before(stream):
    ring = PacketRing(seconds=10)
    fill(ring, stream, newest=100.0)
    first = 100.0 - 49 / FPS
    assert ring.start(first + 25 / FPS, 100.0) == 20
    assert ring.start(first + 20 / FPS + 1e-6, 100.0) == 20
    assert ring.start(first - 50, 100.0) == 0
    assert ring.start(200.0, 200.0) == 40


def test_a_clip_starts_within_the_connection_of_its_event(stream):
    ring = PacketRing(seconds=10)
    fill(ring, stream, newest=100.0)
    fill(ring, stream, newest=105.0)
    assert ring.start(99.0, 104.0) == 50
    assert ring.start(99.0, 100.5) == 20
    assert PacketRing(1).start(0.0, 1.0) == 0


def test_a_ring_without_a_key_frame_starts_with_what_comes():
    ring = PacketRing(seconds=10)
    ring.begin(FORMAT)
    ring.add(b"x", 0, 0, is_keyframe=False, arrived=1.0)
    assert ring.start(0.0, 1.0) == 1


def test_reading_waits_for_the_next_packet(stream):
    ring = PacketRing(seconds=10)
    fill(ring, stream, newest=100.0)
    start = time.monotonic()
    assert ring.read(50, timeout=0.05) == []
    assert time.monotonic() - start >= 0.05
    threading.Timer(0.05, ring.add, (b"x", 1, 1), {"is_keyframe": False, "arrived": 100.04}).start()
    assert [packet.number for packet in ring.read(50, timeout=10)] == [50]
