"""Pictures for scenes to be made with."""

import json

import cv2
import numpy as np
import pytest

from pumpseg_train.dataset.masks import mask_record


@pytest.fixture
def blue_photos(tmp_path):
    """A folder of one photo, all of it blue."""
    (tmp_path / "backgrounds").mkdir()
    cv2.imwrite(str(tmp_path / "backgrounds" / "blue.png"), np.full((70, 90, 3), (200, 40, 20), np.uint8))
    return tmp_path / "backgrounds"


@pytest.fixture
def green_pumpkins(tmp_path):
    """A data set of one photo with a green disc, which is called a pumpkin, and a crowd."""
    folder = tmp_path / "cutouts"
    (folder / "images").mkdir(parents=True)
    picture, disc = np.zeros((100, 100, 3), np.uint8), np.zeros((100, 100), np.uint8)
    cv2.circle(picture, (50, 50), 40, (0, 255, 0), cv2.FILLED)
    cv2.circle(disc, (50, 50), 40, 1, cv2.FILLED)
    cv2.imwrite(str(folder / "images" / "a.png"), picture)
    annotation = {"image_id": 1, "category_id": 1, **mask_record(disc.astype(bool))}
    truth = {
        "images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 100}],
        "categories": [{"id": 1, "name": "pumpkin"}],
        "annotations": [{"id": 1, "iscrowd": 0, **annotation}, {"id": 2, "iscrowd": 1, **annotation}],
    }
    (folder / "annotations.json").write_text(json.dumps(truth), encoding="utf-8")
    return folder
