"""Normals, rotations, and the part of a solid that a window shows."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pumpseg_train.synth.solid import MAP_COLUMNS, MAP_ROWS, UPRIGHT, Placement, grid_of, normals, rotation


def test_normals_of_a_ball_point_outwards():
    ball = np.ones((MAP_ROWS, MAP_COLUMNS), np.float32)
    found = normals(ball)
    assert np.allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-5)
    assert found[MAP_ROWS // 2, 0] == pytest.approx([1, 0, 0], abs=0.02)


@given(st.floats(-20, 20), st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1))
def test_rotations_keep_lengths_and_handedness(angle, axis):
    turn = rotation(np.array(axis), angle)
    assert np.allclose(turn @ turn.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(turn) == pytest.approx(1)
    assert np.allclose(turn @ np.array(axis), axis, atol=1e-9)


def test_a_grid_covers_the_solid_and_no_more_than_the_window():
    whole = Placement(np.zeros(3), 1.0, UPRIGHT, np.eye(3), (50.0, 40.0), 20.0)
    (left, top), across, up = grid_of(whole, 1.0)
    assert (left, top) == (29, 19)
    assert across[0] == pytest.approx(-up[0], abs=0.1) == pytest.approx(-1.0375)
    (left, top), across, _ = grid_of(dataclasses.replace(whole, window=(52, 38)), 1.0)
    assert (left, top, len(across)) == (29, 19, 2 * (54 - 29))
