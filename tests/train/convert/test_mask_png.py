"""Masks as PNG files, one an instance."""

import cv2
import numpy as np
import pytest

from pumpseg.errors import DatasetError
from pumpseg_train.convert.mask_png import read


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
    with pytest.raises(DatasetError, match=r"no photo has a mask: 1 masks match no photo's name .*b_1\.png"):
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
