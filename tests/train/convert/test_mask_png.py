"""Masks as PNG files, one an instance."""

import cv2
import numpy as np
import pytest
from PIL import Image

from pumpseg.errors import DatasetError
from pumpseg_train.convert.mask_png import read, write
from pumpseg_train.dataset.labelled_set import LabelledSet


def test_masks_beside_each_other_and_in_colour(tmp_path, photo):
    photo(tmp_path / "images", "a[1].jpg", (8, 8))
    (tmp_path / "masks").mkdir()
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[2:4, 2:4, 1] = 200
    cv2.imwrite(str(tmp_path / "masks" / "a[1]_m05zsy_12.png"), pixels)
    (only,) = read(tmp_path, "train", ("pumpkin",)).splits["train"]
    assert only.annotations[0].mask(8, 8).sum() == 4


def test_masks_beside_each_other_go_to_the_longest_name(tmp_path, photo):
    for name in ("pumpkin.jpg", "pumpkin_2.jpg", "pump.jpg"):
        photo(tmp_path / "images", name, (8, 8))
    (tmp_path / "masks").mkdir()
    for size, name in enumerate(("pumpkin_1", "pumpkin_3_1", "pumpkin_2_1"), start=1):
        pixels = np.zeros((8, 8), np.uint8)
        pixels[0, :size] = 255
        cv2.imwrite(str(tmp_path / "masks" / f"{name}.png"), pixels)
    photos = read(tmp_path, "train", ("pumpkin",)).splits["train"]
    areas = {one.path.stem: [int(x.mask(8, 8).sum()) for x in one.annotations] for one in photos}
    assert areas == {"pump": [], "pumpkin": [1, 2], "pumpkin_2": [3]}


def test_masks_that_fit_no_photo_are_told(tmp_path, photo):
    photo(tmp_path / "images", "a.jpg", (8, 8))
    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "masks" / "b_1.png"), np.full((8, 8), 255, np.uint8))
    with pytest.raises(DatasetError, match=r"no photo has a mask: masks left out .*: 1, .*b_1\.png"):
        read(tmp_path, "train", ("pumpkin",))
    cv2.imwrite(str(tmp_path / "masks" / "a_1.png"), np.full((8, 8), 255, np.uint8))
    found = read(tmp_path, "train", ("pumpkin",))
    assert len(found.splits["train"][0].annotations) == 1
    assert [note.endswith("b_1.png") for note in found.notes] == [True]


def test_masks_of_several_classes_go_by_their_names(tmp_path, photo):
    photo(tmp_path / "images", "a.jpg", (8, 8))
    (tmp_path / "masks" / "a").mkdir(parents=True)
    for name in ("red apple_1", "apple_2"):
        cv2.imwrite(str(tmp_path / "masks" / "a" / f"{name}.png"), np.full((8, 8), 255, np.uint8))
    (only,) = read(tmp_path, "train", ("apple", "red apple")).splits["train"]
    assert [annotation.class_id for annotation in only.annotations] == [1, 2]
    with pytest.raises(DatasetError, match="begins with no class name"):
        read(tmp_path, "train", ())


def picture_of(kind):
    """A white rectangle of 12 pixels on black, 8x8, in one of the ways that tools write it."""
    white = np.zeros((8, 8), np.uint8)
    white[2:5, 1:5] = 1
    if kind == "palette, white first":
        image = Image.fromarray(1 - white, "P")
        image.putpalette([255, 255, 255, 0, 0, 0])
        return image, {}
    if kind == "palette, transparent background":
        image = Image.fromarray(white, "P")
        image.putpalette([0, 0, 0, 255, 255, 255])
        return image, {"transparency": 0}
    if kind == "one bit":
        return Image.fromarray(white.astype(bool)), {}
    channels = {"alpha, white everywhere": [white * 0 + 1, white], "alpha, black everywhere": [white * 0, white]}
    return Image.fromarray(np.stack(channels[kind], axis=2) * np.uint8(255), "LA"), {}


@pytest.mark.parametrize(
    "kind",
    [
        "palette, white first",
        "palette, transparent background",
        "one bit",
        "alpha, white everywhere",
        "alpha, black everywhere",
    ],
)
def test_the_mask_is_what_one_sees(tmp_path, photo, kind):
    photo(tmp_path / "images", "a.jpg", (8, 8))
    (tmp_path / "masks" / "a").mkdir(parents=True)
    image, options = picture_of(kind)
    image.save(tmp_path / "masks" / "a" / "1.png", **options)
    (only,) = read(tmp_path, "train", ("pumpkin",)).photos[0].annotations
    mask = only.mask(8, 8)
    assert mask.sum() == mask[2:5, 1:5].sum() == 12


def test_jpeg_masks_are_taken_from_half_brightness_on_with_a_note(tmp_path, photo):
    photo(tmp_path / "images", "a.jpg", (64, 64))
    (tmp_path / "masks" / "a").mkdir(parents=True)
    pixels = np.zeros((64, 64), np.uint8)
    pixels[10:30, 20:50] = 255
    cv2.imwrite(str(tmp_path / "masks" / "a" / "1.jpg"), pixels, [cv2.IMWRITE_JPEG_QUALITY, 60])
    found = read(tmp_path, "train", ("pumpkin",))
    assert np.array_equal(found.photos[0].annotations[0].mask(64, 64), pixels > 0)
    assert found.notes[0].startswith("JPEG masks, whose edges are inexact, cut at half brightness: 1")


def test_classes_are_those_of_the_file_names(tmp_path, photo):
    photo(tmp_path / "images", "a.jpg", (8, 8))
    (tmp_path / "masks" / "a").mkdir(parents=True)
    for name in ("red_apple_001", "apple_002_crowd"):
        cv2.imwrite(str(tmp_path / "masks" / "a" / f"{name}.png"), np.full((8, 8), 255, np.uint8))
    found = read(tmp_path, "train", ())
    assert found.classes == ("apple", "red_apple")
    assert [(found.name_of(a), a.crowd) for a in found.photos[0].annotations] == [("apple", True), ("red_apple", False)]


def test_parts_that_are_a_little_transparent_are_seen_and_what_is_invisible_is_not(tmp_path, photo):
    photo(tmp_path / "images", "a.jpg", (8, 8))
    (tmp_path / "masks").mkdir()
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[2:4, 2:4] = 255
    pixels[..., 3] = np.where(pixels[..., 0], 255, 200)
    cv2.imwrite(str(tmp_path / "masks" / "a_1.png"), pixels)
    cv2.imwrite(str(tmp_path / "masks" / "a_2.png"), pixels * np.array([1, 1, 1, 0], np.uint8))
    found = read(tmp_path, "train", ("pumpkin",))
    assert [int(annotation.mask(8, 8).sum()) for annotation in found.photos[0].annotations] == [4]
    assert found.notes == ("labels left out because they have no pixel: 1, the first in a.jpg",)


def test_a_class_that_begins_like_its_photo_keeps_its_name(tmp_path, photo):
    photo(tmp_path / "images", "a.jpg", (8, 8))
    (tmp_path / "masks" / "a").mkdir(parents=True)
    for name in ("a_1_001", "a_002"):
        cv2.imwrite(str(tmp_path / "masks" / "a" / f"{name}.png"), np.full((8, 8), 255, np.uint8))
    assert read(tmp_path, "train", ()).classes == ("a", "a_1")


@pytest.mark.parametrize("name", ["../../evil", "a/b", "a\0"])
def test_classes_that_no_file_can_be_named_after_are_refused(tmp_path, name):
    with pytest.raises(DatasetError, match="no file can be named after the class"):
        write(LabelledSet((name,), {"train": ()}), tmp_path / "out")
