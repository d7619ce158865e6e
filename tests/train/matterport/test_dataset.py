"""Batches of a `Dataset`, and images and masks that it should not give."""

import os
from pathlib import Path

import numpy as np
import pytest

from pumpseg.errors import DatasetError
from pumpseg_train.matterport.config import to_profile
from pumpseg_train.matterport.dataset import Batches, boxes_of_masks, fit_square


def test_batches_hold_what_the_data_set_shows(balloons, tiny_config, load_balloons):
    config, data = tiny_config(), load_balloons(balloons, "train")
    batches = Batches(data, config, to_profile(config), steps=2)
    (batch,) = batches[0]
    assert batch["image"].shape == (2, 128, 128, 3)
    assert batch["image"].dtype == np.uint8
    assert sorted((batch["class_ids"] > 0).sum(axis=1)) == [1, 2], "two photos of a pass, in any order"
    row = int((batch["class_ids"] > 0).sum(axis=1).argmax())
    # 160x120 becomes 128x96 with 16 above; the larger ellipse reaches from (20, 25) to (100, 95)
    larger = batch["boxes"][row][np.prod(batch["boxes"][row][:, 2:] - batch["boxes"][row][:, :2], axis=1).argmax()]
    assert np.abs(larger - [16, 36, 80.8, 92.8]).max() <= 1.5
    assert batch["active"].tolist() == [[1, 1]] * 2
    assert 0.7 < batch["mini_masks"][row, 0].mean() < 0.85, "an ellipse fills pi / 4 of its box"
    assert (batch["anchor_match"] == 1).any()
    repeated = Batches(data, config, to_profile(config), steps=2)[0][0]
    assert all((batch[name] == repeated[name]).all() for name in batch)


def test_images_that_cannot_be_loaded_are_named(balloons, tiny_config, load_balloons):
    data = load_balloons(balloons, "train")
    for info in data.image_info:
        info["path"] = "/nowhere/gone.png"
    with pytest.raises(DatasetError, match=r"image \d \(/nowhere/gone.png\) cannot be loaded: .*cannot read the image"):
        Batches(data, tiny_config(), to_profile(tiny_config()), steps=1)[0]


def test_masks_without_a_class_number_are_named(balloons, tiny_config, load_balloons):
    data = load_balloons(balloons, "train")
    whole = data.load_mask
    data.load_mask = lambda image_id: (whole(image_id)[0], np.zeros(0, np.int32))
    with pytest.raises(DatasetError, match=r"image \d .*load_mask\(\) gave \d+ masks and 0 class numbers"):
        Batches(data, tiny_config(), to_profile(tiny_config()), steps=1)[0]


def test_masks_of_another_size_are_refused(tiny_config):
    profile = to_profile(tiny_config())
    with pytest.raises(DatasetError, match=r"load_mask\(\) must return \(H, W, N\)"):
        fit_square(np.zeros((20, 30, 3), np.uint8), np.zeros((30, 20, 1), bool), profile)
    with pytest.raises(DatasetError, match=r"load_image\(\) must return uint8"):
        fit_square(np.zeros((20, 30, 3), np.float32), np.zeros((20, 30, 1), bool), profile)


def test_boxes_end_after_the_last_pixel():
    masks = np.zeros((10, 12, 1), bool)
    masks[2:5, 3:9, 0] = True
    assert boxes_of_masks(masks).tolist() == [[3, 2, 9, 5]]


def test_augmentation_changes_image_and_masks_alike(balloons, tiny_config, load_balloons):
    config, data = tiny_config(), load_balloons(balloons, "train")

    def flip(image, masks):
        return image[:, ::-1], masks[:, ::-1]

    profile = to_profile(config)
    (plain,), (flipped,) = (Batches(data, config, profile, steps=1, augmentation=a)[0] for a in (None, flip))
    assert (plain["image"][:, :, ::-1] == flipped["image"]).all()
    assert np.allclose(128 - plain["boxes"][:, 0, 0], flipped["boxes"][:, 0, 2])


def test_real_balloons_are_read(tiny_config, load_balloons):
    folder = Path(os.environ.get("PUMPSEG_DATA", "")) / "balloon"
    if not (folder / "train" / "via_region_data.json").is_file():
        pytest.skip("PUMPSEG_DATA names no folder with balloon/")
    data = load_balloons(folder, "train")
    assert (len(data.image_ids), data.class_names) == (61, ["BG", "balloon"])
    config = tiny_config()
    (batch,) = Batches(data, config, to_profile(config), steps=1)[0]
    assert (batch["class_ids"] > 0).any(axis=1).all()


def test_class_numbers_out_of_range_are_named(balloons, tiny_config, load_balloons):
    data = load_balloons(balloons, "train")
    whole = data.load_mask
    data.load_mask = lambda image_id: (whole(image_id)[0], np.full(whole(image_id)[0].shape[-1], 7, np.int32))
    with pytest.raises(DatasetError, match=r"image \d .*load_mask\(\) gave the class number 7, not 1\.\.1"):
        Batches(data, tiny_config(), to_profile(tiny_config()), steps=1)[0]
