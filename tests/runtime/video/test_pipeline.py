import math
import threading
import time

import numpy as np
import pytest

from pumpseg.errors import SourceError
from pumpseg.video import Frame, Sink, Sinks, Source, VideoSource, Viewer
from pumpseg.video.pipeline import QUEUED_FRAMES, process, stream


class Frames(Source):
    """A source made of numbers; `failure` is raised in place of the frame after the last."""

    name = "frames"

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


class Notes(Sink):
    """A sink that remembers; fails at one frame, or while completing."""

    def __init__(self, fails_at=None, fails_to_complete=False):
        self.indices, self.fails_at, self.fails_to_complete = [], fails_at, fails_to_complete
        self.ended = None

    def write(self, result):
        if result.index == self.fails_at:
            raise OSError("disk full")
        assert result.annotated.shape == result.frame.shape
        self.indices.append(result.index)

    def complete(self, *, interrupted=False):
        if self.fails_to_complete:
            raise OSError("disk full")
        self.ended = self.ended or ("interrupted" if interrupted else "complete")

    def discard(self):
        self.ended = self.ended or "discarded"


def run(source, infer, *sinks, **options):
    """Processes a source into sinks, which are ended as a command ends them."""
    with source, Sinks(sinks) as opened:
        return process(source, infer, opened, **options)


@pytest.fixture
def infer(segmenter):
    return segmenter.infer


@pytest.fixture(autouse=True)
def no_thread_stays():
    yield
    deadline = time.monotonic() + 5
    while any(thread.name.startswith("pumpseg") for thread in threading.enumerate()):
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.01)


@pytest.mark.parametrize("workers", [1, 3])
def test_every_frame_passes_in_order(infer, workers):
    source, notes, counts = Frames(200), Notes(), []
    summary = run(source, infer, notes, workers=workers, on_frame=counts.append)
    assert notes.indices == list(range(200))
    assert counts == list(range(1, 201))
    assert (notes.ended, summary.frames, summary.interrupted) == ("complete", 200, False)
    assert source.closed


def test_the_summary_names_every_stage_in_a_line(infer):
    class Slow(Notes):
        def complete(self, *, interrupted=False):
            time.sleep(0.1)
            super().complete(interrupted=interrupted)

    summary = run(Frames(20), infer, Slow())
    assert list(summary.stages) == ["decode", "letterbox", "session", "select", "draw", "write"]
    for times in summary.stages.values():
        assert 0 < times.median <= times.p95 <= times.max
        assert times.mean <= times.max
        assert 0 < times.busy < 1
    assert summary.stages["write"].max > 100, "completing counts as the last frame's"
    assert summary.latency is None
    assert summary.fps > 0
    assert str(summary).startswith("20 frames in ")
    assert "\n" not in str(summary)


def test_results_have_what_a_viewer_shows(infer):
    source = Frames(3)
    results = list(stream(source, infer))
    assert [(result.source, result.index, result.time, result.pts) for result in results] == [
        ("frames", 0, 0, 0),
        ("frames", 1, 1 / 25, 1),
        ("frames", 2, 2 / 25, 2),
    ]
    assert list(results[0].stage_seconds) == ["decode", "letterbox", "session", "select", "draw", "write"]
    assert results[0].latency is None
    assert [int(result.frame[0, 0, 0]) for result in results] == [0, 1, 2]


def test_decoding_never_runs_far_ahead(infer):
    source = Frames(500)
    results = stream(source, infer)
    next(results)
    time.sleep(0.1)
    # Two full channels, one frame in each hand.
    assert source.given <= 2 * QUEUED_FRAMES + 4
    results.close()
    assert source.closed


@pytest.mark.parametrize("count", [0, 1, 50])
def test_a_failing_source_ends_everything(infer, count):
    notes = Notes()
    with pytest.raises(ValueError, match="bad frame"):
        run(Frames(count, ValueError("bad frame")), infer, notes)
    assert notes.ended == "discarded"
    assert notes.indices == list(range(count))


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("live", [False, True])
def test_failing_inference_ends_everything(infer, workers, live):
    def fail(frame):
        if frame.index == 30:
            raise RuntimeError("out of memory")
        return infer(frame)

    source, notes = Frames(500), Notes()
    source.live = live
    with pytest.raises(RuntimeError, match="out of memory"):
        run(source, fail, notes, workers=workers)
    assert (notes.ended, notes.indices) == ("discarded", list(range(30)))


def test_workers_infer_at_the_same_time(infer):
    meeting = threading.Barrier(3)

    def wait_for_the_others(frame):
        meeting.wait(timeout=20)
        return infer(frame)

    assert process(Frames(30), wait_for_the_others, workers=3).frames == 30
    with pytest.raises(ValueError, match="workers must be at least 1"):
        process(Frames(1), infer, workers=0)


def test_a_live_frame_is_taken_only_when_there_is_room_for_its_result(infer):
    source = Frames(249)
    source.live = True
    results = stream(source, infer)
    for taken in range(1, 4):
        next(results)
        time.sleep(0.1)
        # The one in hand, and one that waits.
        assert source.given <= taken + 1
    results.close()


def test_a_limit_ends_the_run_well(infer):
    notes = Notes()
    summary = run(Frames(100), infer, notes, limit=7)
    assert (summary.frames, summary.interrupted, notes.ended) == (7, False, "interrupted")


@pytest.mark.parametrize("failing", [{"fails_at": 3}, {"fails_to_complete": True}])
def test_a_failing_sink_ends_everything(infer, failing):
    first, notes = Notes(), Notes(**failing)
    with pytest.raises(OSError, match="disk full"):
        run(Frames(100), infer, notes, first)
    assert notes.ended == first.ended == "discarded"


@pytest.mark.parametrize("live", [False, True])
def test_frames_before_a_source_failed_are_saved(infer, live):
    source, notes = Frames(5, SourceError("unplugged")), Notes()
    source.live = live
    with pytest.raises(SourceError, match=r"^unplugged; saved: 5 frames before that$"):
        run(source, infer, notes)
    assert (notes.ended, notes.indices) == ("interrupted", [0, 1, 2, 3, 4])


def test_stopping_completes_what_was_done(infer):
    stop, notes = threading.Event(), Notes()
    summary = run(Frames(10**6), infer, notes, stop=stop, on_frame=lambda done: done == 5 and stop.set())
    assert summary.interrupted
    assert summary.frames == 5
    assert notes.ended == "interrupted"


def test_a_stop_is_seen_while_no_frame_comes(infer):
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
    assert process(Silent(1), infer, stop=stop).frames == 0


class Window(Viewer):
    def __init__(self, closed_after):
        self.left, self.show_at = closed_after, []

    def show(self, result, show_at=None):
        assert result.annotated.shape == result.frame.shape
        self.show_at.append(show_at)
        self.left -= 1
        return self.left > 0


def test_closing_the_window_completes_the_outputs(infer):
    window, notes = Window(3), Notes()
    summary = run(Frames(100), infer, notes, viewer=window)
    assert (summary.frames, summary.interrupted, notes.ended) == (3, False, "interrupted")
    assert window.show_at == [None] * 3, "saving is not slowed down"


def test_what_is_only_watched_is_shown_in_time(infer, clip):
    window = Window(100)
    process(VideoSource(clip), infer, viewer=window)
    assert np.diff(window.show_at) == pytest.approx([0.04] * 19)
    still, live = Window(2), Window(2)
    process(Frames(2), infer, viewer=still)
    assert still.show_at == [math.inf, math.inf]
    camera = Frames(2)
    camera.live = True
    process(camera, infer, viewer=live)
    assert live.show_at == [None, None]


def test_what_a_viewer_draws_counts_as_drawing(infer):
    assert process(Frames(5), infer, viewer=Window(100)).stages["draw"].median > 0
    assert process(Frames(5), infer).stages["draw"].median == 0


def test_an_iterator_that_is_left_early_stops_its_threads(infer):
    source = Frames(10**6)
    for result in stream(source, infer):
        if result.index == 3:
            break
    del result
