import os
import struct
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from pumpseg.errors import SinkError, SourceError
from pumpseg.images import (
    IMAGE_SUFFIXES,
    MAX_FILE_BYTES,
    as_frame,
    check_frame,
    check_image_format,
    encode_image,
    read_image,
    write_image,
)

PICTURE = np.random.default_rng(1).integers(0, 256, (12, 17, 3), np.uint8)


def test_an_image_is_read_as_it_was_written(tmp_path):
    write_image(tmp_path / "a.png", PICTURE)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), PICTURE)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_transparency_is_written():
    picture = np.dstack([PICTURE, PICTURE[..., 0]])
    encoded = np.frombuffer(encode_image(picture, Path("a.png")), np.uint8)
    np.testing.assert_array_equal(cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED), picture)


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_every_suffix_that_is_read_can_be_written(suffix, tmp_path):
    check_image_format(tmp_path / f"a{suffix}")
    write_image(tmp_path / f"a{suffix.upper()}", PICTURE)
    assert read_image(tmp_path / f"a{suffix.upper()}").shape == PICTURE.shape


@pytest.mark.parametrize("content", [b"", b"no picture", b"BM" + b"\xff" * 60])
def test_damage_is_one_line(content, tmp_path):
    path = tmp_path / "a.bmp"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"a\.bmp is damaged, or not an image of a kind that OpenCV reads"):
        read_image(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SourceError, match=r"cannot read .*none\.png: No such file"):
        read_image(tmp_path / "none.png")


@pytest.mark.parametrize(
    ("suffix", "at", "announced"),
    [
        (".png", 16, struct.pack(">II", 20000, 20000)),
        (".bmp", 18, struct.pack("<ii", 20000, -20000)),
        (".gif", 6, struct.pack("<HH", 20000, 20000)),
        (".ppm", 3, b"20000 20000\n255\n"),
    ],
)
def test_a_picture_that_announces_too_many_pixels_is_not_decoded(tmp_path, monkeypatch, suffix, at, announced):
    content = bytearray(cv2.imencode(suffix, PICTURE)[1].tobytes())
    content[at : at + len(announced)] = announced
    path = tmp_path / f"bomb{suffix}"
    path.write_bytes(content)
    monkeypatch.setattr(cv2, "imdecode", None)
    with pytest.raises(SourceError, match=r"bomb\.\w+ is too large: 20000x20000 pixels, and 268,435,456 are the limit"):
        read_image(path)


def test_a_file_of_many_gigabytes_is_not_read(tmp_path):
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        os.truncate(file.fileno(), MAX_FILE_BYTES + 1)  # a hole on the disk
    with pytest.raises(SourceError, match=r"large\.png is too large: an image file has at most 2 GiB"):
        read_image(path)


@pytest.mark.parametrize("name", ["a", "a.xyz"])
def test_an_unknown_format(name):
    with pytest.raises(SinkError, match=r"is not an image format that OpenCV writes; try \.png"):
        check_image_format(Path(name))


def test_pixels_that_a_format_cannot_hold(tmp_path):
    with pytest.raises(SinkError, match=r"cannot encode 70000x1 pixels as .*\.jpg"):
        write_image(tmp_path / "a.jpg", np.zeros((1, 70000, 3), np.uint8))


def test_arrays_paths_and_pil_images_are_frames(tmp_path):
    write_image(tmp_path / "a.png", PICTURE)
    picture = PIL.Image.fromarray(PICTURE[..., ::-1].copy())
    for image in (PICTURE, tmp_path / "a.png", str(tmp_path / "a.png"), picture, picture.convert("RGBA")):
        np.testing.assert_array_equal(as_frame(image), PICTURE)
    assert as_frame(PICTURE) is PICTURE
    grey = as_frame(picture.convert("L"))
    assert grey.shape == PICTURE.shape
    with pytest.raises(ValueError, match="must be uint8, got float64"):
        as_frame(PICTURE / 2)


def test_a_frame_is_given_back():
    frame = np.zeros((4, 6, 3), np.uint8)
    assert check_frame(frame) is frame
    check_frame(frame[::2, ::-1])


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (None, "must be a NumPy array, got NoneType: was the image read at all"),
        ([[1]], "NumPy array, got list"),
        (np.zeros((4, 4, 3)), "uint8, got float64"),
        (np.zeros((4, 4), np.uint8), "COLOR_GRAY2BGR"),
        (np.zeros((4, 4, 1), np.uint8), "COLOR_GRAY2BGR"),
        (np.zeros((4, 4, 4), np.uint8), "COLOR_BGRA2BGR"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"\(H, W, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
    ],
)
def test_wrong_frames_say_what_to_do(frame, message):
    with pytest.raises(ValueError, match=message):
        check_frame(frame)
