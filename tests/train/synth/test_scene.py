"""Scenes: sprites on a ground, and masks that are exact and disjoint."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pumpseg_train.synth.scene import SMALLEST_AREA, compose, render_scene
from pumpseg_train.synth.solid import Sprite


@settings(max_examples=30)
@given(st.integers(-30, 40), st.integers(-30, 40), st.integers(1, 25), st.integers(1, 25))
def test_compose_clips_sprites_to_the_image(x, y, width, height):
    image = np.zeros((24, 32, 3), np.float32)
    sprite = Sprite(np.ones((height, width, 3), np.float32), np.ones((height, width), np.float32), (x, y))
    owner = compose(image, [sprite], [7])
    rows = max(0, min(24, y + height) - max(0, y))
    columns = max(0, min(32, x + width) - max(0, x))
    assert np.count_nonzero(owner == 7) == rows * columns
    assert image.sum() == 3 * rows * columns


def test_the_nearer_sprite_owns_the_pixel_and_half_cover_counts():
    image = np.zeros((4, 4, 3), np.float32)
    far = Sprite(np.ones((4, 4, 3), np.float32), np.ones((4, 4), np.float32), (0, 0))
    alpha = np.array([[0.49, 0.5]], np.float32)
    near = Sprite(np.zeros((1, 2, 3), np.float32), alpha, (1, 1))
    owner = compose(image, [far, near], [1, 2])
    assert owner[1].tolist() == [1, 1, 2, 1]
    assert image[1, 1, 0] == pytest.approx(0.51)


def test_scene_masks_are_disjoint_and_on_the_pumpkins():
    scenes = [render_scene(np.random.default_rng(seed), (128, 96)) for seed in range(5)]
    for scene in scenes:
        assert scene.image.shape == (96, 128, 3)
        assert scene.image.dtype == np.uint8
        assert scene.masks.shape[1:] == (96, 128)
        assert scene.masks.dtype == bool
        assert scene.masks.sum(axis=0).max(initial=0) <= 1
        assert all(mask.sum() >= SMALLEST_AREA for mask in scene.masks)
    assert sum(len(scene.masks) for scene in scenes) >= 5
