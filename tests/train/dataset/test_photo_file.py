"""Photos are read upright and as they are; what cannot be is named."""

import io
import os
import warnings

import cv2
import numpy as np
import pytest
from PIL import Image

from pumpseg.errors import DatasetError
from pumpseg_train.dataset.check import near_pairs
from pumpseg_train.dataset.photo_file import PhotoTooLargeError, list_images, load_image, probe, size_of

SIZE = (90, 120)  # h, w


def picture(seed):
    """Coarse noise: no two are alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC)


def save(path, image, orientation=None, **options):
    image = Image.fromarray(image)
    exif = image.getexif()
    if orientation:
        exif[0x0112] = orientation
    image.save(path, exif=exif, **options)


def test_images_load_as_rgb_and_are_shared_read_only(tmp_path):
    path = tmp_path / "red.png"
    cv2.imwrite(str(path), np.full((20, 40, 3), (0, 0, 255), np.uint8))  # BGR
    image = load_image(path)
    assert image.shape == (20, 40, 3)
    assert image[0, 0].tolist() == [255, 0, 0]
    assert load_image(path, 10).shape == (5, 10, 3)
    with pytest.raises(ValueError, match="read-only"):
        image[0] = 0


def test_a_grey_image_has_three_channels(tmp_path):
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((8, 8), 90, np.uint8))
    assert load_image(tmp_path / "grey.png").shape == (8, 8, 3)


def test_an_unreadable_image_is_named(tmp_path):
    (tmp_path / "bad.jpg").write_text("no image")
    with pytest.raises(DatasetError, match=r"bad\.jpg cannot be read as an image"):
        load_image(tmp_path / "bad.jpg")


def test_images_are_listed_below_a_folder_sorted(tmp_path):
    for name in ("b.PNG", "a.jpg", "deep/c.webp", "d.TIF", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ["a.jpg", "b.PNG", "d.TIF", "c.webp"]
    with pytest.raises(DatasetError, match="holds no images"):
        list_images(tmp_path / "empty")


def test_hidden_files_are_no_images(tmp_path):
    for name in ("a.png", "._a.png"):
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ["a.png"]


def test_copies_have_near_fingerprints_and_others_do_not():
    def print_of(image, **options):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", **options)
        return probe(buffer.getvalue(), "x", fingerprint=True).fingerprint

    images = [Image.fromarray(picture(seed)).resize((640, 480)) for seed in range(12)]
    prints = [print_of(image, quality=95) for image in images]
    copies = [print_of(image.resize((200, 150)), quality=50) for image in images]
    pairs = {(a, b) for a, b, _ in near_pairs(prints + copies, 32)}
    assert pairs == {(n, n + 12) for n in range(12)}


def test_a_picture_too_large_to_decode_is_named(tmp_path, monkeypatch):
    path = tmp_path / "2.png"
    save(path, np.zeros((200, 200, 3), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 15_000)
    for look in (lambda: probe(path.read_bytes(), "2.png"), lambda: size_of(path), lambda: load_image(path)):
        with pytest.raises(PhotoTooLargeError, match=r"2\.png is too large: it has more than 30,000 pixels"):
            look()


def test_a_large_picture_is_as_good_as_any(tmp_path, monkeypatch, recwarn):
    save(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # Pillow warns of it, and refuses twice as many
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # pytest undoes those of the modules
    assert probe((tmp_path / "a.png").read_bytes(), "a.png").width == 8
    assert size_of(tmp_path / "a.png") == (8, 8, 1)
    assert not recwarn.list


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_upright_photo(tmp_path, suffix, orientation):
    path = tmp_path / f"a.{suffix}"
    save(path, np.zeros((80, 120, 3), np.uint8), orientation=orientation)
    upright = (80, 120) if orientation >= 5 else (120, 80)
    assert size_of(path) == (*upright, orientation)
    info = probe(path.read_bytes(), "a")
    assert (info.width, info.height, info.orientation, info.stored_size) == (*upright, orientation, (120, 80))
    assert load_image(path).shape[1::-1] == upright


def test_a_pipe_is_no_photo(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for look in (size_of, load_image):
        with pytest.raises(DatasetError, match=r"pipe\.png is not a regular file"):
            look(tmp_path / "pipe.png")
