from fractions import Fraction

import cv2
import numpy as np
import pytest

from pumpseg.errors import SourceError
from pumpseg.video.sources.packet_ring import PacketRing
from pumpseg.video.sources.ring_capture import RingCapture


class FakeCapture:
    rate, negotiated, skipped, pixel_aspect = Fraction(10), "64x48", 3, Fraction(4, 3)

    def __init__(self, images):
        self.images, self.closed = images, False

    def read(self):
        if not self.images:
            raise SourceError("it stopped delivering frames")
        return self.images.pop(0), 5.0 - len(self.images)

    def close(self):
        self.closed = True


def test_frames_are_handed_on_and_kept_as_jpegs():
    images = [np.full((48, 64, 3), 40 * i, np.uint8) for i in range(1, 4)] + [np.zeros((24, 32, 3), np.uint8)]
    fake, ring = FakeCapture(list(images)), PacketRing(10)
    capture = RingCapture(fake, ring)
    for i, image in enumerate(images):
        read, arrived = capture.read()
        assert read is image and arrived == 2.0 + i
    with pytest.raises(SourceError, match="stopped delivering"):
        capture.read()
    packets = ring.read(0, 0)
    assert [packet.arrived for packet in packets] == [2.0, 3.0, 4.0, 5.0]
    assert all(packet.is_keyframe and packet.format.codec == "mjpeg" for packet in packets)
    assert [packet.format.size for packet in packets] == [(64, 48)] * 3 + [(32, 24)]
    for image, packet in zip(images, packets, strict=True):
        decoded = cv2.imdecode(np.frombuffer(packet.data, np.uint8), cv2.IMREAD_COLOR)
        assert np.abs(decoded.astype(int) - image).max() < 4
        assert packet.pts * packet.format.time_base == pytest.approx(packet.arrived)


def test_everything_else_is_the_captures():
    fake = FakeCapture([np.zeros((8, 8, 3), np.uint8)])
    capture = RingCapture(fake, PacketRing(1))
    capture.read()
    assert (capture.rate, capture.negotiated) == (Fraction(10), "64x48")
    assert (capture.skipped, capture.pixel_aspect) == (3, Fraction(4, 3))
    capture.close()
    assert fake.closed
