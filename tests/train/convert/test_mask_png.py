"""Masks as PNG files, one an instance or one a photo."""

import cv2
import numpy as np
import pytest
from PIL import Image

from pumpseg.errors import DatasetError
from pumpseg_train.cli.data import main
from pumpseg_train.convert.mask_png import read_index, read_masks

CLASSES = ("apple", "pumpkin")


def test_instances_that_an_index_cannot_hold_are_not_counted(tmp_path, capsys, photo, coco):
    photo(tmp_path / "in" / "images", "a.png", (8, 8))
    annotations = [
        {"id": number, "image_id": 1, "category_id": 5, "segmentation": [[1, 1, 6, 1, 6, 6]]} for number in (1, 2)
    ]
    coco(tmp_path / "in", [{"id": 1, "file_name": "a.png", "width": 8, "height": 8}], annotations)
    assert main(["convert", str(tmp_path / "in"), "--to", "index", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "1 instances are covered by others entirely and lost" in said
    assert "train: 1 images, 1 instances" in said


def test_masks_beside_each_other_and_in_colour(tmp_path, photo):
    photo(tmp_path / "images", "a[1].jpg", (8, 8))
    (tmp_path / "masks").mkdir()
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[2:4, 2:4, 1] = 200
    cv2.imwrite(str(tmp_path / "masks" / "a[1]_m05zsy_12.png"), pixels)
    (only,) = read_masks(tmp_path, "train", ("pumpkin",)).splits["train"]
    assert only.annotations[0].mask(8, 8).sum() == 4


def test_masks_beside_each_other_go_to_the_longest_name(tmp_path, photo):
    for name in ("pumpkin.jpg", "pumpkin_2.jpg", "pump.jpg"):
        photo(tmp_path / "images", name, (8, 8))
    (tmp_path / "masks").mkdir()
    for size, name in enumerate(("pumpkin_1", "pumpkin_3_1", "pumpkin_2_1"), start=1):
        pixels = np.zeros((8, 8), np.uint8)
        pixels[0, :size] = 255
        cv2.imwrite(str(tmp_path / "masks" / f"{name}.png"), pixels)
    photos = read_masks(tmp_path, "train", ("pumpkin",)).splits["train"]
    areas = {one.path.stem: [int(x.mask(8, 8).sum()) for x in one.annotations] for one in photos}
    assert areas == {"pump": [], "pumpkin": [1, 2], "pumpkin_2": [3]}


def test_masks_that_fit_no_photo_are_told(tmp_path, photo):
    photo(tmp_path / "images", "a.jpg", (8, 8))
    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "masks" / "b_1.png"), np.full((8, 8), 255, np.uint8))
    with pytest.raises(DatasetError, match=r"no photo has a mask: 1 masks match no photo's name .*b_1\.png"):
        read_masks(tmp_path, "train", ("pumpkin",))
    cv2.imwrite(str(tmp_path / "masks" / "a_1.png"), np.full((8, 8), 255, np.uint8))
    found = read_masks(tmp_path, "train", ("pumpkin",))
    assert len(found.splits["train"][0].annotations) == 1
    assert [note.endswith("b_1.png") for note in found.notes] == [True]


def test_masks_of_several_classes_go_by_their_names(tmp_path, photo):
    photo(tmp_path / "images", "a.jpg", (8, 8))
    (tmp_path / "masks" / "a").mkdir(parents=True)
    for name in ("red apple_1", "apple_2"):
        cv2.imwrite(str(tmp_path / "masks" / "a" / f"{name}.png"), np.full((8, 8), 255, np.uint8))
    (only,) = read_masks(tmp_path, "train", ("apple", "red apple")).splits["train"]
    assert [annotation.class_id for annotation in only.annotations] == [1, 2]
    with pytest.raises(DatasetError, match="begins with no class name"):
        read_masks(tmp_path, "train", ())


def test_a_palette_is_read_by_its_indices_and_255_is_void(tmp_path, photo):
    photo(tmp_path / "images", "a.jpg", (8, 8))
    (tmp_path / "masks").mkdir()
    pixels = np.zeros((8, 8), np.uint8)
    pixels[:2], pixels[2:4], pixels[4:5] = 1, 2, 255
    image = Image.frombytes("P", (8, 8), pixels.tobytes())
    image.putpalette([value for index in range(256) for value in (0, 0, index % 2)])
    image.save(tmp_path / "masks" / "a.png")
    (only,) = read_index(tmp_path, "train", ("pumpkin",)).splits["train"]
    assert [int(label.mask(8, 8).sum()) for label in only.annotations] == [16, 16]


def test_an_index_of_several_classes_is_that_of_cityscapes(tmp_path, photo):
    photo(tmp_path / "images", "a.jpg", (8, 8))
    (tmp_path / "masks").mkdir()
    pixels = np.zeros((8, 8), np.uint16)
    pixels[0], pixels[1], pixels[2] = 1000, 2001, 2
    cv2.imwrite(str(tmp_path / "masks" / "a.png"), pixels)
    (only,) = read_index(tmp_path, "train", CLASSES).splits["train"]
    assert [(annotation.class_id, annotation.crowd) for annotation in only.annotations] == [
        (2, True),
        (1, True),
        (2, False),
    ]
    pixels[0] = 3001
    cv2.imwrite(str(tmp_path / "masks" / "a.png"), pixels)
    with pytest.raises(DatasetError, match="has the value 3001, whose class 3 is none of the 2"):
        read_index(tmp_path, "train", CLASSES)


def test_masks_of_another_size_than_the_photo_are_refused(tmp_path, photo):
    photo(tmp_path / "images", "a.jpg", (8, 8))
    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "masks" / "a.png"), np.ones((9, 8), np.uint8))
    with pytest.raises(DatasetError, match=r"a\.jpg is 8x8, its labels are for 8x9"):
        read_index(tmp_path, "train", ("pumpkin",))
