"""From linear light to a picture."""

import numpy as np
import pytest

from pumpseg_train.synth.film import Film, develop, metered

PLAIN = Film(1.0, np.ones(3, np.float32), blur=0.0, noise=0.0, vignette=0.0)


def test_the_meter_puts_dark_and_bright_light_at_one_tone():
    means = []
    for level in (0.1, 0.2, 0.4):
        light = np.full((32, 32, 3), level, np.float32)
        means.append(develop(light, PLAIN, metered(light), np.random.default_rng(0)).mean())
    assert means == pytest.approx([means[0]] * 3, abs=2)
    assert 100 < means[0] < 160


def test_balance_and_vignette():
    light = np.full((33, 33, 3), 0.2, np.float32)
    film = Film(1.0, np.array([1.5, 1.0, 0.7], np.float32), blur=0.0, noise=0.0, vignette=0.8)
    picture = develop(light, film, 1.0, np.random.default_rng(0)).astype(int)
    blue, green, red = picture[16, 16]
    assert blue > green > red
    assert picture[0, 0].sum() < picture[16, 16].sum()
