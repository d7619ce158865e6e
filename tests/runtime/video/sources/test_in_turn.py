"""A camera's frames, taken when it is its turn."""

import threading
import time

from pumpseg.video.sources.in_turn import InTurn
from pumpseg.video.turns import Turns


def test_the_frame_is_the_newest_when_the_turn_comes(numbered_camera):
    camera, capture = numbered_camera()
    turns = Turns(1)
    source = InTurn(camera, turns)
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


def test_a_camera_that_hangs_holds_no_turn(numbered_camera):
    camera, capture = numbered_camera(hang=1)
    turns = Turns(1)
    source = InTurn(camera, turns)
    frames = iter(source)
    next(frames)
    source.end_turn()
    threading.Thread(target=lambda: next(frames, None), daemon=True).start()
    time.sleep(0.05)
    others = threading.Thread(target=turns.take)
    others.start()
    others.join(timeout=5)
    assert not others.is_alive()
    capture.close()
    source.close()


def test_a_turn_ends_with_the_iteration(numbered_camera):
    camera, _ = numbered_camera()
    turns = Turns(1)
    frames = iter(InTurn(camera, turns))
    next(frames)
    frames.close()
    turns.take()


def test_no_more_frames_a_second_than_asked_for(numbered_camera):
    camera, _ = numbered_camera(fps=200)
    source = InTurn(camera, Turns(1), fps=20)
    start, count = time.perf_counter(), 0
    for _ in source:
        source.end_turn()
        count += 1
        if time.perf_counter() - start > 0.6:
            break
    assert 3 <= count <= 14
