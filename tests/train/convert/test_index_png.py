"""Instance numbers as the pixels of one PNG a photo."""

import cv2
import numpy as np
import pytest
from PIL import Image

from pumpseg.errors import DatasetError
from pumpseg_train.cli.data import main
from pumpseg_train.convert.index_png import read

CLASSES = ("apple", "pumpkin")


def test_instances_that_an_index_cannot_hold_are_not_counted(tmp_path, capsys, photo, coco):
    photo(tmp_path / "in" / "images", "a.png", (8, 8))
    annotations = [
        {"id": number, "image_id": 1, "category_id": 5, "segmentation": [[1, 1, 6, 1, 6, 6]]} for number in (1, 2)
    ]
    coco(tmp_path / "in", [{"id": 1, "file_name": "a.png", "width": 8, "height": 8}], annotations)
    assert main(["convert", str(tmp_path / "in"), "--to", "index", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "instances lost because others cover them entirely: 1" in said
    assert "train: 1 image, 1 instance," in said


def test_a_palette_is_read_by_its_indices_and_255_is_void(tmp_path, photo):
    photo(tmp_path / "images", "a.jpg", (8, 8))
    (tmp_path / "masks").mkdir()
    pixels = np.zeros((8, 8), np.uint8)
    pixels[:2], pixels[2:4], pixels[4:5] = 1, 2, 255
    image = Image.frombytes("P", (8, 8), pixels.tobytes())
    image.putpalette([value for index in range(256) for value in (0, 0, index % 2)])
    image.save(tmp_path / "masks" / "a.png")
    (only,) = read(tmp_path, "train", ("pumpkin",)).splits["train"]
    assert [int(label.mask(8, 8).sum()) for label in only.annotations] == [16, 16]


def test_an_index_of_several_classes_is_that_of_cityscapes(tmp_path, photo):
    photo(tmp_path / "images", "a.jpg", (8, 8))
    (tmp_path / "masks").mkdir()
    pixels = np.zeros((8, 8), np.uint16)
    pixels[0], pixels[1], pixels[2] = 1000, 2001, 2
    cv2.imwrite(str(tmp_path / "masks" / "a.png"), pixels)
    (only,) = read(tmp_path, "train", CLASSES).splits["train"]
    assert [(annotation.class_id, annotation.crowd) for annotation in only.annotations] == [
        (2, True),
        (1, True),
        (2, False),
    ]
    pixels[0] = 3001
    cv2.imwrite(str(tmp_path / "masks" / "a.png"), pixels)
    with pytest.raises(DatasetError, match="has the value 3001, whose class 3 is none of the 2"):
        read(tmp_path, "train", CLASSES)


def test_masks_of_another_size_than_the_photo_are_refused(tmp_path, photo):
    photo(tmp_path / "images", "a.jpg", (8, 8))
    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "masks" / "a.png"), np.ones((9, 8), np.uint8))
    with pytest.raises(DatasetError, match=r"a\.jpg is 8x8, its labels are for 8x9"):
        read(tmp_path, "train", ("pumpkin",))
