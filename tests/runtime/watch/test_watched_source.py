"""A camera's frames, taken when it is its turn."""

import threading
import time
from fractions import Fraction

import numpy as np
import pytest

from pumpseg.watch.turns import Turns
from pumpseg.watch.watched_source import WatchedSource, blackened, in_pixels


def test_points_are_pixels_or_shares():
    assert in_pixels([(0, 0), (1, 0.5)], (100, 200)) == [(0, 0), (200, 50)]
    assert in_pixels([(0, 0), (2, 0.5)], (100, 200)) == [(0, 0), (2, 0.5)]


def test_the_frame_is_the_newest_when_the_turn_comes(numbered_camera):
    camera, capture = numbered_camera()
    turns = Turns(1)
    source = WatchedSource(camera, turns, first_time=time.perf_counter())
    frames = iter(source)
    turns.take()  # another camera's frame is being segmented
    taken = []
    thread = threading.Thread(target=lambda: taken.append(next(frames)))
    thread.start()
    time.sleep(0.3)
    assert not taken
    made = capture.made
    turns.give_back()
    thread.join(timeout=10)
    assert taken[0].image[0, 0, 0] >= made
    assert source.dropped > 5
    assert 0.25 < taken[0].time < 5


def test_a_camera_that_hangs_holds_no_turn(numbered_camera):
    camera, _ = numbered_camera(hang=1)
    turns = Turns(1)
    source = WatchedSource(camera, turns, first_time=0.0)
    frames = iter(source)
    next(frames)
    source.end_turn()
    threading.Thread(target=lambda: next(frames, None), daemon=True).start()
    time.sleep(0.05)
    others = threading.Thread(target=turns.take)
    others.start()
    others.join(timeout=5)
    assert not others.is_alive()
    source.close()


def test_a_turn_ends_with_the_iteration(numbered_camera):
    camera, _ = numbered_camera()
    turns = Turns(1)
    frames = iter(WatchedSource(camera, turns, first_time=0.0))
    next(frames)
    frames.close()
    turns.take()


def test_no_more_frames_a_second_than_asked_for(numbered_camera):
    camera, _ = numbered_camera(fps=200)
    source = WatchedSource(camera, Turns(1), first_time=0.0, fps=20)
    start, count = time.perf_counter(), 0
    for _ in source:
        source.end_turn()
        count += 1
        if time.perf_counter() - start > 0.6:
            break
    assert 3 <= count <= 14


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
