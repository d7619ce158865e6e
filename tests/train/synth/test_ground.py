"""Camera and ground."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pumpseg_train.synth.ground import BACKDROPS, GROUNDS, TILE, Camera, make_backdrop, make_ground, render_ground


@given(st.floats(0, 1.4), st.floats(-0.5, 0.5), st.floats(-1, 1), st.floats(0, 1), st.floats(2, 9))
def test_camera_projects_along_its_axes(pitch, yaw, x, y, z):
    camera = Camera(np.array([0.0, 1.0, 0.0]), pitch, yaw, 500.0, (640, 480))
    assert np.allclose(camera.axes @ camera.axes.T, np.eye(3), atol=1e-9)
    (column, row), depth = camera.project(np.array([x, y, z]))
    if depth > 0.1:
        right, up, ahead = camera.axes
        ray = ahead + (column - 320) / 500 * right - (row - 240) / 500 * up
        assert np.allclose(camera.position + depth * ray, [x, y, z], atol=1e-6)


@pytest.mark.parametrize("kind", GROUNDS)
def test_a_ground_is_dull_light_up_to_the_horizon(kind):
    ground = make_ground(np.random.default_rng(1), kind)
    assert all(level.shape == (TILE, TILE, 3) for level in ground.levels)
    camera = Camera(np.array([0.0, 1.0, 0.0]), 0.2, 0.0, 80.0, (64, 48))
    albedo, distance = render_ground(ground, camera)
    assert albedo.shape == (48, 64, 3)
    assert albedo.min() > 0 and albedo.max() < 1.4
    sky = ~np.isfinite(distance[:, 32])
    assert np.count_nonzero(sky) == pytest.approx(camera.horizon, abs=1)


@pytest.mark.parametrize("kind", BACKDROPS)
def test_a_backdrop_has_the_size_of_the_picture(kind):
    backdrop = make_backdrop(np.random.default_rng(2), kind, (64, 48), 20.0)
    assert (backdrop.shape, backdrop.dtype) == ((48, 64, 3), np.float32)
    assert backdrop.std() > 0
