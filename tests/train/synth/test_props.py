"""Things that are not pumpkins."""

import numpy as np

from pumpseg_train.synth.props import make_ball, make_block, render_ball, render_block, render_leaf
from pumpseg_train.synth.pumpkin import random_light
from pumpseg_train.synth.solid import UPRIGHT, Placement


def placed(scale=20.0):
    return Placement(np.array([0.0, 1.0, 0.0]), 1.0, UPRIGHT, np.eye(3), (40.0, 40.0), scale)


def test_a_ball_is_a_disc():
    for seed in range(4):
        rng = np.random.default_rng(seed)
        mask = render_ball(make_ball(rng), placed(), random_light(rng)).mask
        assert 0.8 * np.pi * 20**2 < mask.sum() < 1.05 * np.pi * 20**2


def test_a_block_shows_no_more_than_its_reach_and_has_no_hole():
    for seed in range(4):
        rng = np.random.default_rng(seed)
        faces, colours = make_block(rng)
        sprite = render_block(faces, colours, placed(), random_light(rng))
        assert max(sprite.mask.shape) <= 2 * 20 * 1.25
        assert all((np.diff(np.flatnonzero(row)) == 1).all() for row in sprite.mask if row.any()), "convex"


def test_a_leaf_is_around_its_centre():
    sprite = render_leaf(np.random.default_rng(0), (50.0, 60.0), 30.0, random_light(np.random.default_rng(0)))
    rows, columns = np.nonzero(sprite.mask)
    assert 0 < sprite.mask.sum() < 30**2
    assert abs(columns.mean() + sprite.origin[0] - 50) < 4 and abs(rows.mean() + sprite.origin[1] - 60) < 4
