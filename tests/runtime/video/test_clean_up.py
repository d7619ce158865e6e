import gc
import subprocess
import sys
import threading

import numpy as np
import pytest

from pumpseg.timings import Timings
from pumpseg.video import stream
from pumpseg.video.clean_up import clean_up
from pumpseg.video.sources.camera import Camera
from pumpseg.video.sources.frame_source import Frame, Source


class Frames(Source):
    """As many black frames as are asked for."""

    name = "frames"

    def __iter__(self):
        index = 0
        while True:
            yield Frame(np.zeros((8, 8, 3), np.uint8), "frames", index, 0.0)
            index += 1


def gone(before):
    """Wait until no thread of ours is left but those that were there before, which other tests may have left."""
    started = [
        thread for thread in threading.enumerate() if thread.name.startswith("pumpseg-") and thread not in before
    ]
    for thread in started:
        thread.join(10)
    return not any(thread.is_alive() for thread in started)


@pytest.fixture
def before():
    return threading.enumerate()


def test_an_action_runs_now_and_during_a_collection_elsewhere():
    threads = []
    clean_up(lambda: threads.append(threading.get_ident()))
    assert threads == [threading.get_ident()]
    ran = threading.Event()

    class Cycle:
        def __init__(self):
            self.me = self

        def __del__(self):
            clean_up(lambda: (threads.append(threading.get_ident()), ran.set()))

    Cycle()
    gc.collect()
    assert ran.wait(10)
    assert threads[1] != threading.get_ident()


def test_a_stream_dropped_within_a_cycle_does_not_wait_for_what_the_collector_interrupted(make_instances, before):
    lock, infers = threading.Lock(), threading.Event()

    def infer(frame):
        infers.set()
        with lock:
            return make_instances(frame.image.shape[:2], []), Timings()

    class Holder:
        def __init__(self):
            self.me, self.results = self, stream(Frames(), infer)

    holder = Holder()
    next(holder.results)
    gc.disable()
    try:
        with lock:
            infers.clear()
            assert infers.wait(10)
            del holder
            collecting = threading.Thread(target=gc.collect, daemon=True)
            collecting.start()
            collecting.join(5)
            assert not collecting.is_alive(), "the collector waits for a thread that waits for us"
    finally:
        gc.enable()
    assert gone(before)


@pytest.mark.parametrize("started", [False, True])
def test_a_stream_of_a_camera_that_is_dropped_leaves_no_thread(started, make_instances, before):
    class Capture:
        rate, negotiated, skipped, closed, pixel_aspect = 25, "8x8", 0, False, 1

        def read(self):
            threading.Event().wait(0.01)
            return np.zeros((8, 8, 3), np.uint8), 0.0

        def close(self):
            Capture.closed = True

    results = stream(Camera("camera", Capture), lambda frame: (make_instances((8, 8), []), Timings()))
    if started:
        next(results)
    del results
    gc.collect()
    assert gone(before)
    assert Capture.closed


def test_a_stream_that_is_open_at_the_end_of_the_program(clip, model_path):
    code = f"""
from pumpseg import Segmenter
results = Segmenter({str(model_path)!r}).stream({str(clip)!r})
print(next(results).index)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, text=True).stdout == "0\n"
