"""Colours change without their channels changing places."""

import numpy as np
import pytest

from pumpseg_train.samples.colour import jitter_colour, jitter_light, log_uniform, vary


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("colour", [(220, 60, 30), (30, 60, 220)])
def test_colour_jitter_keeps_the_order_of_the_channels(colour):
    picture = np.full((32, 32, 3), colour, np.uint8)
    greys = 0
    for seed in range(200):
        means = jitter_colour(picture, rng(seed)).reshape(-1, 3).mean(axis=0)
        if np.ptp(means) < 12:
            greys += 1
        else:
            assert np.argsort(means).tolist() == np.argsort(colour).tolist(), seed
    assert greys < 20
    assert (picture == colour).all(), "the picture itself is left alone"


def test_light_jitter_keeps_the_order_of_the_channels():
    picture = np.full((8, 8, 3), (200, 120, 40), np.uint8)
    results = [jitter_light(picture, rng(seed))[0, 0] for seed in range(30)]
    red, green, blue = np.mean(results, axis=0)
    assert red > 1.2 * green > 1.4 * blue
    assert len({tuple(result) for result in results}) > 20


def test_a_variety_has_other_colours_or_fewer_ribs_and_nothing_bleeds_in():
    ribbed = np.full((60, 60, 3), (40, 60, 220), np.uint8)  # blue around, which must not bleed in
    ribbed[10:50, 10:50] = (220, 120, 20)
    ribbed[10:50, 12:50:8] = (110, 60, 10)
    alpha = np.zeros((60, 60), np.uint8)
    alpha[10:50, 10:50] = 255
    before = ribbed.copy()
    ribs, orders = [], []
    for seed in range(60):
        inside = vary(ribbed, alpha, rng(seed))[10:50, 10:50].astype(float)
        ribs.append(inside[:, 10:30].mean(axis=-1).std())
        red, green, blue = inside.reshape(-1, 3).mean(axis=0)
        assert blue < 0.5 * max(red, green), seed
        orders.append(green / red)
    plain = ribbed[10:50, 20:40].astype(float).mean(axis=-1).std()
    assert 0.2 < np.mean(np.array(ribs) < 0.6 * plain) < 0.9, "some lose their ribs, some do not"
    assert max(orders) > 0.75 and min(orders) < 0.4, "some become yellow, some red"
    assert (ribbed == before).all(), "the picture itself is left alone"


def test_log_uniform_draws_as_often_below_the_geometric_mean_as_above():
    generator = rng()
    values = np.array([log_uniform(generator, (0.25, 4.0)) for _ in range(2000)])
    assert values.min() >= 0.25 and values.max() <= 4
    assert (values < 1).mean() == pytest.approx(0.5, abs=0.04)
