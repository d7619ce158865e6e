"""A camera's frames, taken when it is its turn."""

import time
from fractions import Fraction

import numpy as np
import pytest

from pumpseg.video.turns import Turns
from pumpseg.watch.watched_source import WatchedSource, blackened, in_pixels


def test_points_are_pixels_or_shares():
    assert in_pixels([(0, 0), (1, 0.5)], (100, 200)) == [(0, 0), (200, 50)]
    assert in_pixels([(0, 0), (2, 0.5)], (100, 200)) == [(0, 0), (2, 0.5)]


def test_time_counts_from_the_first_connection_and_the_turn_ends_with_the_iteration(numbered_camera):
    camera, _ = numbered_camera()
    turns = Turns(1)
    frames = iter(WatchedSource(camera, turns, first_time=time.perf_counter() - 100))
    assert 100 < next(frames).time < 110
    frames.close()
    turns.take()


@pytest.mark.parametrize(("rotate", "size", "aspect"), [(0, (48, 64), 2), (90, (64, 48), 0.5), (180, (48, 64), 2)])
def test_pictures_are_turned_and_then_blackened(numbered_camera, rotate, size, aspect):
    camera, capture = numbered_camera()
    capture.pixel_aspect = Fraction(2)
    corner = [(0, 0), (0.5, 0), (0.5, 0.25), (0, 0.25)]
    source = WatchedSource(camera, Turns(1), first_time=0.0, rotate=rotate, mask_out=[corner])
    frame = next(iter(source))
    assert frame.image.shape[:2] == size
    assert frame.pixel_aspect == aspect
    assert not frame.image[: size[0] // 4, : size[1] // 2].any()
    assert frame.image[-1, -1].all()


def test_a_picture_that_cannot_be_written_is_copied():
    image = np.full((10, 10, 3), 9, np.uint8)
    image.flags.writeable = False
    black = blackened(image, [[(0, 0), (5, 0), (5, 5), (0, 5)]])
    assert not black[:5, :5].any()
    assert image.all()
