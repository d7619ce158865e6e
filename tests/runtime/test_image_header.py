import struct

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pumpseg.image_header import image_size

PICTURE = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
SUFFIXES = [".png", ".jpg", ".bmp", ".tiff", ".gif", ".ppm", ".pgm", ".pbm", ".pam", ".sr", ".jp2", ".avif", ".hdr"]


def encoded(suffix, options=()):
    picture = PICTURE
    if suffix in (".pgm", ".pbm"):
        picture = PICTURE[..., 0]
    if suffix in (".hdr", ".pfm"):
        picture = PICTURE.astype(np.float32)
    if not cv2.haveImageWriter(f"x{suffix}"):
        pytest.skip(f"OpenCV does not write {suffix} here")
    return cv2.imencode(suffix, picture, list(options))[1].tobytes()


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".pfm"])
def test_the_size_of_every_format(suffix):
    assert image_size(encoded(suffix)) == (53, 37)


def test_progressive_jpeg_with_metadata():
    content = encoded(".jpg", (cv2.IMWRITE_JPEG_PROGRESSIVE, 1))
    # A thumbnail inside, and filling between two markers.
    small = cv2.imencode(".jpg", PICTURE[:8, :8])[1].tobytes()
    segment = b"\xff\xe1" + struct.pack(">H", len(small) + 2) + small
    assert image_size(content[:2] + segment + b"\xff\xff\xff" + content[3:]) == (53, 37)


def test_a_bmp_that_is_upside_down():
    content = bytearray(encoded(".bmp"))
    content[22:26] = struct.pack("<i", -37)
    assert image_size(bytes(content)) == (53, 37)


def test_bigtiff():
    entries = b"".join(struct.pack(">HHQQ", tag, 16, 1, side) for tag, side in ((256, 53), (257, 37)))
    content = b"MM\0+" + struct.pack(">HHQ", 8, 0, 16) + struct.pack(">Q", 2) + entries
    assert image_size(content) == (53, 37)


def test_what_is_none():
    assert image_size(b"") is None
    assert image_size(b"text") is None
    assert image_size(encoded(".webp")) is None


@given(data=st.data())
def test_damage_raises_nothing(data):
    content = bytearray(encoded(data.draw(st.sampled_from(SUFFIXES[:6]))))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, min(200, len(content) - 1)))] = data.draw(st.integers(0, 255))
    image_size(bytes(content[: data.draw(st.integers(0, len(content)))]))
