"""Several sources in one stream."""

import threading
import time

import numpy as np
import pytest

from pumpseg import SourceError
from pumpseg.video import Frame, Source, Tracker, stream_all
from pumpseg.video.sources.in_turn import InTurn
from pumpseg.video.turns import Turns


class Frames(Source):
    """A source made of numbers; `failure` is raised in place of the frame after the last."""

    def __init__(self, name, count, failure=None):
        self.name, self.length, self.failure = name, count, failure
        self.closed = False

    def __iter__(self):
        for i in range(self.length):
            yield Frame(np.full((8, 8, 3), i % 250, np.uint8), self.name, i, i / 25, i)
        if self.failure:
            raise self.failure

    def close(self):
        self.closed = True


class Silent(Frames):
    """A camera that delivers nothing."""

    live = True

    def __init__(self):
        super().__init__("silent", 0)
        self.over = threading.Event()

    def __iter__(self):
        self.over.wait()
        return iter(())

    def close(self):
        super().close()
        self.over.set()


@pytest.fixture
def infer(segmenter):
    return segmenter.infer


@pytest.fixture(autouse=True)
def no_thread_stays():
    yield
    deadline = time.monotonic() + 5
    while any(thread.name.startswith(("pumpseg-feed", "pumpseg-infer")) for thread in threading.enumerate()):
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.01)


@pytest.mark.parametrize("workers", [1, 2])
def test_each_source_comes_in_its_order_to_its_end(infer, workers):
    sources = [Frames("a", 30), Frames("b", 0), Frames("c", 12)]
    results = list(stream_all(sources, infer, workers=workers))
    for number, source in enumerate(sources):
        assert [one.index for one in results if one.source_number == number] == list(range(source.length))
        assert {one.source for one in results if one.source_number == number} <= {source.name}
        assert source.closed


def test_sources_that_are_ready_are_yielded_in_turn(infer):
    results = stream_all([Frames("a", 100), Frames("b", 100), Frames("c", 100)], infer)
    order = []
    for result in results:
        order.append(result.source_number)
        if len(order) == 36:
            break
        time.sleep(0.005)
    results.close()
    assert min(order.count(number) for number in range(3)) >= 8, order


def test_a_source_that_fails_does_not_end_the_others(infer, caplog):
    sources = [Frames("a", 3, SourceError("a is cut short")), Frames("b", 60)]
    seen = []
    with pytest.raises(SourceError, match=r"^a is cut short$"):
        for result in stream_all(sources, infer):
            seen.append(result.source)
    assert (seen.count("a"), seen.count("b")) == (3, 60)
    assert "source 0: a is cut short" in caplog.messages
    failing = [Frames("a", 3, SourceError("a is cut short")), Frames("b", 1), Frames("c", 9, SourceError("c is lost"))]
    with pytest.raises(SourceError, match=r"^2 of 3 sources failed; the first: a is cut short$"):
        list(stream_all(failing, infer))


def test_other_failures_end_all(infer):
    def fail(frame):
        if frame.index == 5:
            raise RuntimeError("out of memory")
        return infer(frame)

    sources = [Frames("a", 10**6), Frames("b", 5)]
    with pytest.raises(RuntimeError, match="out of memory"):
        list(stream_all(sources, fail))
    assert all(source.closed for source in sources)
    with pytest.raises(ValueError, match="bad frame"):
        list(stream_all([Frames("a", 10**6), Frames("b", 5, ValueError("bad frame"))], infer))


def test_a_camera_that_delivers_nothing_holds_nobody_up_and_closing_ends_it(infer):
    sources = [Silent(), Frames("a", 20), Silent()]
    results = stream_all(sources, infer)
    assert [next(results).source for _ in range(20)] == ["a"] * 20
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 2
    assert all(source.closed for source in sources)


def test_a_stop_is_seen_while_no_frame_comes(infer):
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    assert list(stream_all([Silent(), Silent()], infer, stop=stop)) == []


def test_cameras_take_their_newest_frame_when_it_is_their_turn(numbered_camera, infer):
    cameras = {name: numbered_camera(name) for name in "abc"}
    running, most, missed = [0], [0], []
    lock = threading.Lock()

    def slow(frame):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
            missed.append((cameras[frame.source][1].made - int(frame.image[0, 0, 0])) % 256)
        time.sleep(0.05)
        with lock:
            running[0] -= 1
        return infer(frame)

    turns = Turns(1)
    results = stream_all([InTurn(camera, turns) for camera, _ in cameras.values()], slow)
    seen = [next(results) for _ in range(12)]
    results.close()
    assert most == [1]
    assert min(sum(one.source_number == number for one in seen) for number in range(3)) >= 2
    assert sorted(missed)[len(missed) // 2] <= 3, "a camera makes some ten frames while the others have their turns"
    assert seen[-1].dropped > 0


def test_each_source_has_its_tracker(infer):
    trackers = [Tracker(25), None]
    for result in stream_all([Frames("a", 3), Frames("b", 3)], infer, trackers=trackers):
        assert (result.instances.track_ids is None) == (result.source == "b")
        assert ("track" in result.stage_seconds) == (result.source == "a")
