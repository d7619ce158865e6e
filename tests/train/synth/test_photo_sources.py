"""Photos in rendered scenes: pumpkins cut out of them, and pieces of backgrounds."""

import numpy as np
import pytest

from pumpseg.errors import DatasetError
from pumpseg_train.synth.photo_sources import draw_background, load_photo_sources


def test_pumpkins_are_cut_out_and_crowds_are_not(green_pumpkins, blue_photos):
    photos = load_photo_sources([green_pumpkins], [blue_photos])
    (cutout,) = photos.cutouts
    assert cutout.image[cutout.alpha > 250].mean(axis=0) == pytest.approx([0, 255, 0], abs=2)
    assert [path.name for path in photos.backgrounds] == ["blue.png"]


def test_a_set_without_pumpkins_is_refused(tmp_path, make_split):
    make_split(tmp_path, [[(0, (60, 60, 40, 35))]], classes=("apple",))
    with pytest.raises(DatasetError, match="has no pumpkin of 48 pixels or more"):
        load_photo_sources([tmp_path], [])


def test_a_background_fills_the_picture_in_linear_light(blue_photos):
    light = draw_background(np.random.default_rng(0), (blue_photos / "blue.png",), (200, 50))
    assert (light.shape, light.dtype) == ((50, 200, 3), np.float32)
    blue, green, red = light.reshape(-1, 3).mean(axis=0)
    assert blue == pytest.approx(((200 / 255 + 0.055) / 1.055) ** 2.4, rel=0.02)
    assert blue > 10 * max(green, red)
