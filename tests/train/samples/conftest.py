"""Data to draw samples from."""

import cv2
import numpy as np
import pytest

from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.samples.sources import load_sources


@pytest.fixture(scope="module")
def backgrounds(tmp_path_factory):
    """A folder with two green pictures."""
    folder = tmp_path_factory.mktemp("green")
    for number in range(2):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((80, 120, 3), (30, 160, 30), np.uint8))
    return folder


@pytest.fixture(scope="module")
def sources(fruit, backgrounds):
    return load_sources(read_dataset(fruit, "train"), auxiliary=[read_dataset(fruit, "val")], backgrounds=[backgrounds])


@pytest.fixture(scope="module")
def make_batches(fruit):
    """Makes the batches of 96 pixels of a seed."""
    from pumpseg_train.samples.batches import BatchSampler
    from pumpseg_train.samples.config import AugmentationConfig
    from pumpseg_train.samples.loader import Batches

    sources = load_sources(read_dataset(fruit, "train"))

    def make(seed=1, steps=3, augmentation=None, processes=0):
        sampler = BatchSampler(
            sources, augmentation or AugmentationConfig(), size=96, fill=127, batch_size=2, seed=seed
        )
        return Batches(sampler, steps=steps, processes=processes)

    return make
