import threading
import time

import numpy as np
import pytest

from pumpseg import Segmenter
from pumpseg.errors import SourceError
from pumpseg.video.pipeline import QUEUED_FRAMES, process, stream
from pumpseg.video.sources.frame_source import Frame


class Frames:
    """A source made of numbers; `failure` is raised in place of the frame after the last."""

    name, inputs, timing, audio, live = "frames", (), None, None, False
    dropped = reconnects = failed = 0

    def __init__(self, count, failure=None):
        self.length, self.failure = count, failure
        self.given = self.closed = 0

    def __iter__(self):
        for i in range(self.length):
            self.given = i + 1
            yield Frame(np.full((8, 8, 3), i % 250, np.uint8), self.name, i, i / 25, i)
        if self.failure:
            raise self.failure

    def close(self):
        self.closed += 1


class Notes:
    """A sink that remembers; fails at one frame, or while completing, if told to."""

    draws = True

    def __init__(self, fails_at=None, fails_to_complete=False):
        self.indices, self.fails_at, self.fails_to_complete = [], fails_at, fails_to_complete
        self.ended = None

    def write(self, frame, instances, drawn):
        if frame.index == self.fails_at:
            raise OSError("disk full")
        assert drawn.shape == frame.image.shape
        self.indices.append(frame.index)

    def complete(self, *, interrupted=False):
        if self.fails_to_complete:
            raise OSError("disk full")
        self.ended = "interrupted" if interrupted else "complete"

    def discard(self):
        self.ended = self.ended or "discarded"


@pytest.fixture(scope="module")
def segmenter(model_path):
    return Segmenter(model_path, provider="cpu", threads=1, allow_spinning=False)


@pytest.fixture(autouse=True)
def no_thread_stays():
    yield
    deadline = time.monotonic() + 5
    while any(thread.name.startswith("pumpseg") for thread in threading.enumerate()):
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.01)


@pytest.mark.parametrize("workers", [1, 3])
def test_every_frame_passes_in_order(segmenter, workers):
    source, notes, told = Frames(200), Notes(), []
    summary = process(source, segmenter, [notes], workers=workers, on_frame=told.append)
    assert notes.indices == list(range(200))
    assert told == list(range(1, 201))
    assert (notes.ended, summary.frames, summary.interrupted) == ("complete", 200, False)
    assert source.closed


def test_the_summary_names_every_stage_in_a_line(segmenter):
    summary = process(Frames(20), segmenter, [Notes()])
    assert list(summary.stages) == ["decode", "letterbox", "session", "select", "draw", "write"]
    for times in summary.stages.values():
        assert 0 < times.median <= times.p95 <= times.longest
        assert times.mean <= times.longest
        assert 0 < times.busy < 1
    assert summary.latency is None
    assert summary.fps > 0
    assert str(summary).startswith("20 frames in ")
    assert "\n" not in str(summary)


def test_decoding_never_runs_far_ahead(segmenter):
    source = Frames(500)
    results = stream(source, segmenter)
    next(results)
    time.sleep(0.1)
    # Two full channels, one frame in each hand.
    assert source.given <= 2 * QUEUED_FRAMES + 4
    results.close()
    assert source.closed


@pytest.mark.parametrize("count", [0, 1, 50])
def test_a_failing_source_ends_everything(segmenter, count):
    notes = Notes()
    with pytest.raises(ValueError, match="bad frame"):
        process(Frames(count, ValueError("bad frame")), segmenter, [notes])
    assert notes.ended == "discarded"
    assert notes.indices == list(range(count))


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("live", [False, True])
def test_a_failing_segmenter_ends_everything(segmenter, monkeypatch, workers, live):
    timed = segmenter.timed

    def fail(frame):
        if frame[0, 0, 0] == 30:
            raise RuntimeError("out of memory")
        return timed(frame)

    monkeypatch.setattr(segmenter, "timed", fail)
    source, notes = Frames(500), Notes()
    source.live = live
    with pytest.raises(RuntimeError, match="out of memory"):
        process(source, segmenter, [notes], workers=workers)
    assert (notes.ended, notes.indices) == ("discarded", list(range(30)))


def test_workers_infer_at_the_same_time(segmenter, monkeypatch):
    timed, meeting = segmenter.timed, threading.Barrier(3)

    def wait_for_the_others(frame):
        meeting.wait(timeout=20)
        return timed(frame)

    monkeypatch.setattr(segmenter, "timed", wait_for_the_others)
    assert process(Frames(30), segmenter, workers=3).frames == 30
    with pytest.raises(ValueError, match="workers must be at least 1"):
        process(Frames(1), segmenter, workers=0)


def test_a_live_frame_is_taken_only_when_there_is_room_for_its_result(segmenter):
    source = Frames(249)
    source.live = True
    results = stream(source, segmenter)
    for taken in range(1, 4):
        next(results)
        time.sleep(0.1)
        # The one in hand, and one that waits.
        assert source.given <= taken + 1
    results.close()


def test_a_limit_ends_the_run_well(segmenter):
    notes = Notes()
    summary = process(Frames(100), segmenter, [notes], limit=7)
    assert (summary.frames, summary.interrupted, notes.ended) == (7, False, "interrupted")


@pytest.mark.parametrize("failing", [{"fails_at": 3}, {"fails_to_complete": True}])
def test_a_failing_sink_ends_everything(segmenter, failing):
    first, notes = Notes(), Notes(**failing)
    with pytest.raises(OSError, match="disk full"):
        process(Frames(100), segmenter, [notes, first])
    assert notes.ended == first.ended == "discarded"


@pytest.mark.parametrize("live", [False, True])
def test_what_came_before_a_source_failed_is_kept(segmenter, live):
    source, notes = Frames(5, SourceError("unplugged")), Notes()
    source.live = live
    with pytest.raises(SourceError, match=r"^unplugged; what came before \(5 frames\) is kept$"):
        process(source, segmenter, [notes])
    assert (notes.ended, notes.indices) == ("interrupted", [0, 1, 2, 3, 4])


def test_stopping_completes_what_was_done(segmenter):
    stop, notes = threading.Event(), Notes()
    summary = process(Frames(10**6), segmenter, [notes], stop=stop, on_frame=lambda done: done == 5 and stop.set())
    assert summary.interrupted
    assert summary.frames == 5
    assert notes.ended == "interrupted"


def test_a_stop_is_seen_while_no_frame_comes(segmenter):
    class Silent(Frames):
        live = True

        def __iter__(self):
            self.over = threading.Event()
            self.over.wait()
            return iter(())

        def close(self):
            self.over.set()

    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    assert process(Silent(1), segmenter, stop=stop).frames == 0


class Window:
    draws = True

    def __init__(self, closed_after):
        self.left, self.closed = closed_after, False

    def show(self, view, due=None):
        assert view.drawn.shape == view.frame.image.shape
        self.left -= 1
        return self.left > 0

    def close(self):
        self.closed = True


def test_closing_the_window_completes_the_outputs(segmenter):
    window, notes = Window(3), Notes()
    summary = process(Frames(100), segmenter, [notes], window=window)
    assert (summary.frames, summary.interrupted, notes.ended, window.closed) == (
        3,
        False,
        "interrupted",
        True,
    )


def test_an_iterator_that_is_left_early_stops_its_threads(segmenter):
    source = Frames(10**6)
    for result in stream(source, segmenter):
        if result.frame.index == 3:
            break
    del result
