"""The reader and the samples on the real photos, where they are at hand."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.samples.augment import draw_sample
from pumpseg_train.samples.config import AugmentationConfig
from pumpseg_train.samples.scene import photo_instances
from pumpseg_train.samples.sources import load_sources


@pytest.fixture(scope="module")
def pumpkins():
    if "PUMPSEG_DATA" not in os.environ:
        pytest.skip("PUMPSEG_DATA does not name a folder that contains pumpkins/")
    return Path(os.environ["PUMPSEG_DATA"]) / "pumpkins"


@pytest.mark.parametrize("split", ["train", "val"])
def test_every_photo_has_the_size_and_some_mask_that_the_json_names(pumpkins, split):
    dataset = read_dataset(pumpkins, split)
    assert dataset.classes == ("pumpkin",)
    for photo in dataset.photos:
        assert cv2.imread(str(photo.path)).shape[:2] == (photo.height, photo.width)
        masks = [annotation.mask(photo.width, photo.height) for annotation in photo.annotations]
        assert all(mask.any() for mask in masks)


def test_pumpkins_are_redder_than_what_surrounds_them(pumpkins):
    redder = []
    for photo in read_dataset(pumpkins, "val").photos:
        image, instances = photo_instances(photo)
        for instance in instances:
            height, width = instance.mask.shape
            crop = image[instance.y : instance.y + height, instance.x : instance.x + width].astype(int)
            redder.append((crop[..., 0] - crop[..., 2])[instance.mask > 127].mean())
    assert np.mean(np.array(redder) > 0) > 0.9


def test_samples_of_all_kinds_can_be_drawn(pumpkins):
    cutouts = [read_dataset(pumpkins / name) for name in ("cutouts_varieties", "cutouts_small")]
    sources = load_sources(read_dataset(pumpkins, "train"), paste_from=cutouts, backgrounds=[pumpkins / "unlabelled"])
    counts = [
        len(draw_sample(sources, AugmentationConfig(mosaic_prob=0), 128, 127, np.random.default_rng(seed)).instances())
        for seed in range(80)
    ]
    assert min(counts) == 0
    assert max(counts) > 3
