"""The video loop: decoding, inference, and drawing with encoding overlap, each in threads of its own.

OpenCV, ONNX Runtime and PyAV release the interpreter lock while they work, so threads are enough. Bounded
channels join the stages; an exception in any of them ends all and is raised where the results are taken.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pumpseg.checks import check_count
from pumpseg.draw import draw
from pumpseg.errors import SourceError
from pumpseg.instances import Instances
from pumpseg.segmenter import Segmenter
from pumpseg.timings import Timings
from pumpseg.video.sinks.open import Sink
from pumpseg.video.sources.frame_source import Frame, Source
from pumpseg.video.stats import Stopwatch, Summary
from pumpseg.video.tracking import Tracker

QUEUED_FRAMES = 4
_POLL_SECONDS = 0.1

T = TypeVar("T")

Find = Callable[[Frame], tuple[Instances, Timings]]
"""Finds the instances of a frame, in any thread; StreamClosed ends the stream before it."""


@dataclass(frozen=True, eq=False)
class Result:
    """A frame and what was found in it.

    came: seconds that decoding took, or for a live source the waiting for the frame. timings: of inference.
    tracking: seconds that the tracker took, 0 without one.
    """

    frame: Frame
    instances: Instances
    came: float
    timings: Timings
    tracking: float = 0.0


@dataclass(frozen=True, eq=False)
class View:
    """A frame as it is shown.

    drawn: uint8 BGR (H, W, 3) with the instances on it, None where nothing asked for it. spent: seconds that
    every stage took. latency: seconds from a live frame's arrival to its result, None for files.
    dropped, reconnects: of the source so far.
    """

    frame: Frame
    instances: Instances
    drawn: NDArray[np.uint8] | None
    spent: Mapping[str, float]
    latency: float | None
    dropped: int
    reconnects: int


class Window(Protocol):
    """Shows frames; `show` tells whether the user still wants to see more.

    draws: whether `show` needs the frame with its instances drawn.
    """

    draws: bool

    def show(self, view: View, due: float | None = None) -> bool: ...

    def close(self) -> None: ...


class StreamClosed(Exception):
    """There is no more: a channel was closed by its other end, or the run was stopped."""


class _Channel(Generic[T]):
    """A bounded queue of one producer that both ends can end: by finishing, or by closing it."""

    def __init__(self, size: int) -> None:
        self._items: deque[T] = deque()
        self._size = size
        self._changed = threading.Condition()
        self._finished = False
        self._closed = False
        self._error: BaseException | None = None

    def wait_for_room(self) -> None:
        """Raises StreamClosed once the consumer has closed the channel."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) < self._size or self._closed)
            if self._closed:
                raise StreamClosed

    def put(self, item: T) -> None:
        """Wait for room. Raises StreamClosed once the consumer has closed the channel."""
        with self._changed:
            self.wait_for_room()
            self._items.append(item)
            self._changed.notify_all()

    def get(self, timeout: float | None = None) -> T | None:
        """The next item; None when the time is up.

        Raises StreamClosed after the last item, or the producer's error in its place.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._finished or self._closed, timeout)
            if self._items:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            if self._error is not None:
                raise self._error
            if self._finished or self._closed:
                raise StreamClosed
            return None

    def finish(self, error: BaseException | None = None) -> None:
        with self._changed:
            self._finished, self._error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()


@dataclass(frozen=True, eq=False)
class _Pending:
    """A frame on its way through inference."""

    frame: Frame
    came: float
    found: Future[tuple[Instances, Timings]]


def stream(
    source: Source,
    segmenter: Segmenter,
    *,
    workers: int = 1,
    tracker: Tracker | None = None,
    stop: threading.Event | None = None,
    find: Find | None = None,
) -> Generator[Result, None, None]:
    """Results of a source in order, decoded and inferred ahead in threads. Closes the source in the end, once begun.

    workers: frames of a file that are inferred at the same time. A live source has one worker, which takes
    the newest frame only when there is room for its result, so that no result grows old in a queue.
    tracker: gives the instances ids; one of its own for every source.
    stop: ends the stream early when set. find: does what the segmenter does, in its place.
    Raises whatever the source or the segmenter raised.
    """
    check_count("workers", workers)
    workers = 1 if source.live else workers
    find = find or (lambda frame: segmenter.timed(frame.image))
    pool = ThreadPoolExecutor(workers, thread_name_prefix="pumpseg-infer")
    # Between camera and screen a queue is nothing but delay.
    pending: _Channel[_Pending] = _Channel(1 if source.live else QUEUED_FRAMES + workers)

    def feed() -> None:
        frames = _timed(source)
        while True:
            pending.wait_for_room()
            frame, came = next(frames, (None, 0.0))
            if frame is None:
                return
            found = pool.submit(find, frame)
            if source.live:
                found.exception()  # waits until it is done: the next frame is taken after that
            pending.put(_Pending(frame, came, found))

    feeder = _start("feed", feed, pending)
    try:
        while not (stop is not None and stop.is_set()):
            item = pending.get(_POLL_SECONDS)
            if item is not None:
                instances, timings = item.found.result()
                start = perf_counter()
                if tracker is not None:
                    instances = tracker.update(instances, item.frame.time)
                yield Result(item.frame, instances, item.came, timings, perf_counter() - start)
    except StreamClosed:
        return
    finally:
        pending.close()
        if source.live:
            source.close()
        feeder.join()
        pool.shutdown(cancel_futures=True)
        source.close()


def process(
    source: Source,
    segmenter: Segmenter,
    sinks: Sequence[Sink] = (),
    *,
    workers: int = 1,
    tracker: Tracker | None = None,
    window: Window | None = None,
    limit: int | None = None,
    stop: threading.Event | None = None,
    find: Find | None = None,
    on_frame: Callable[[int], None] = lambda done: None,
) -> Summary:
    """Run a source through the segmenter into sinks and window.

    Completes every sink when the source ends, after `limit` frames, when `stop` is set or the user closes the
    window, and also with what there is when the source fails on the way (SourceError, which is raised then).
    If anything else fails, discards them all and raises it. workers, tracker, find: see `stream`. on_frame is told the
    number of frames done.
    """
    stop = stop or threading.Event()
    first = "wait" if source.live else "decode"
    tracks = () if tracker is None else ("track",)
    watches = {name: Stopwatch() for name in (first, "letterbox", "session", "select", *tracks, "draw", "write")}
    latency = Stopwatch()
    frames, found, ended_early = 0, 0, False
    draws = any(sink.draws for sink in sinks) or (window is not None and window.draws)
    start = perf_counter()
    results = stream(source, segmenter, workers=workers, tracker=tracker, stop=stop, find=find)
    try:
        for result in results:
            before_drawing = perf_counter()
            drawn = draw(result.frame.image, result.instances) if draws else None
            before_writing = perf_counter()
            for sink in sinks:
                sink.write(result.frame, result.instances, drawn)
            done = perf_counter()
            frames += 1
            found += len(result.instances)
            spent = {
                first: result.came,
                "letterbox": result.timings.pre,
                "session": result.timings.session,
                "select": result.timings.post,
                **dict.fromkeys(tracks, result.tracking),
                "draw": before_writing - before_drawing,
                "write": done - before_writing,
            }
            for name, seconds in spent.items():
                watches[name].add(seconds)
            arrived = result.frame.arrived
            age = None if arrived is None else before_drawing - arrived
            if age is not None:
                latency.add(age)
            on_frame(frames)
            if window is not None:
                due = None if sinks else _due(source, result.frame, start)
                view = View(result.frame, result.instances, drawn, spent, age, source.dropped, source.reconnects)
                ended_early = not window.show(view, due)
            ended_early = ended_early or frames == limit
            if ended_early:
                break
        interrupted = stop.is_set()
        results.close()
        before_completing = perf_counter()
        _complete(sinks, interrupted=interrupted or ended_early)
        watches["write"].total += perf_counter() - before_completing
    except SourceError as error:
        results.close()
        if not frames:
            raise
        _complete(sinks, interrupted=True)
        kept = f"; what came before ({frames} frames) is kept" if sinks else ""
        raise SourceError(f"{error}{kept}") from None
    finally:
        results.close()
        if window is not None:
            window.close()
        for sink in sinks:
            # Does nothing to those that are complete.
            sink.discard()
    seconds = perf_counter() - start
    return Summary(
        frames=frames,
        instances=found,
        seconds=seconds,
        dropped=source.dropped,
        reconnects=source.reconnects,
        failed=source.failed,
        interrupted=interrupted,
        stages={name: watch.times(seconds) for name, watch in watches.items()},
        latency=latency.times(seconds) if source.live else None,
        distinct=None if tracker is None else tracker.count,
    )


def _complete(sinks: Sequence[Sink], *, interrupted: bool) -> None:
    for sink in sinks:
        sink.complete(interrupted=interrupted)


def _due(source: Source, frame: Frame, start: float) -> float | None:
    """When a frame that is only watched should make room for the next: at once if live, never if a still."""
    if source.live:
        return None
    return math.inf if source.timing is None else start + frame.time


def _timed(source: Source) -> Iterator[tuple[Frame, float]]:
    """Frames of a source, each with the seconds it took to come."""
    frames = iter(source)
    while True:
        start = perf_counter()
        try:
            frame = next(frames)
        except StopIteration:
            return
        yield frame, perf_counter() - start


def _start(name: str, work: Callable[[], None], output: _Channel[Any]) -> threading.Thread:
    """A thread that works until it is done, fails, or nobody takes its output any more."""

    def run() -> None:
        try:
            work()
        except StreamClosed:
            output.finish()
        except BaseException as error:
            output.finish(error)
        else:
            output.finish()

    thread = threading.Thread(target=run, name=f"pumpseg-{name}", daemon=True)
    thread.start()
    return thread
