"""The video loop: decoding, inference, and drawing with encoding overlap, each in threads of its own.

OpenCV, ONNX Runtime and PyAV release the interpreter lock while they work, so threads are enough. Bounded
channels join the stages; an exception in any of them ends all and is raised where the results are taken.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Generic, TypeVar

from pumpseg.checks import check_count
from pumpseg.errors import SourceError, WriteError, first_line
from pumpseg.instances import Instances
from pumpseg.plural import counted
from pumpseg.timings import Timings
from pumpseg.video.clean_up import clean_up
from pumpseg.video.result import DEFAULT_STYLE, Result, Style, Viewer
from pumpseg.video.sinks.open import Sinks
from pumpseg.video.sources.frame_source import Frame, Source
from pumpseg.video.stats import RunMeter, Summary, stage_names
from pumpseg.video.tracking import Tracker
from pumpseg.zones.counter import ZoneCounter

log = logging.getLogger("pumpseg")

QUEUED_FRAMES = 4
_POLL_SECONDS = 0.1

T = TypeVar("T")

InferFn = Callable[[Frame], tuple[Instances, Timings]]
"""Infers the instances of a frame, in any thread; raises StreamClosed to end the stream before it."""


class StreamClosed(Exception):
    """There are no more items: the other end closed the channel, or the run was stopped."""


class _Channel(Generic[T]):
    """A bounded queue of one producer and one consumer; the producer finishes it, the consumer closes it.

    changed: notified of every change; several channels may share it, so that their consumer can wait for any of them.
    """

    def __init__(self, size: int, changed: threading.Condition) -> None:
        self._items: deque[T] = deque()
        self._size = size
        self._changed = changed
        self._finished = False
        self._closed = False
        self._error: BaseException | None = None

    def wait_for_room(self) -> None:
        """Wait until an item fits. Raises StreamClosed once the consumer has closed the channel."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) < self._size or self._closed)
            if self._closed:
                raise StreamClosed

    def put(self, item: T) -> None:
        """Add an item, after `wait_for_room`."""
        with self._changed:
            self._items.append(item)
            self._changed.notify_all()

    @property
    def ready(self) -> bool:
        """Whether `get` would not wait; with the lock of `changed`."""
        return bool(self._items) or self._finished or self._closed

    def get(self) -> T:
        """The next item.

        Raises StreamClosed after the last item, or the producer's error in its place.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.ready)
            if self._items:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            if self._error is not None:
                raise self._error
            raise StreamClosed

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
    wait_seconds: float
    inferred: Future[tuple[Instances, Timings]]


class _Feed:
    """One of the sources on its way through inference, in threads of its own. number: which one, from 0."""

    def __init__(
        self,
        number: int,
        source: Source,
        infer: InferFn,
        workers: int,
        queued: int,
        changed: threading.Condition,
    ) -> None:
        self.number, self.source = number, source
        self._infer = infer
        workers = 1 if source.live else workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="pumpseg-infer")
        # Between camera and screen a queue is nothing but delay.
        self.pending: _Channel[_Pending] = _Channel(1 if source.live else queued + workers, changed)
        self._thread = threading.Thread(target=self._run, name="pumpseg-feed", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        frames, failure = iter(self.source), None
        try:
            while True:
                self.pending.wait_for_room()
                asked = perf_counter()
                frame = next(frames, None)
                if frame is None:
                    return
                wait_seconds = perf_counter() - asked
                inferred = self._pool.submit(self._infer, frame)
                if self.source.live:
                    inferred.exception()  # waits until it is done: the next frame is taken after that
                    self.source.end_turn()
                self.pending.put(_Pending(frame, wait_seconds, inferred))
        except StreamClosed:
            return
        except BaseException as error:
            failure = error
        finally:
            self.pending.finish(failure)

    def end(self) -> None:
        self.pending.close()
        if self.source.live:
            self.source.close()
        self._thread.join()
        self._pool.shutdown(cancel_futures=True)
        self.source.close()


def stream(
    source: Source,
    infer: InferFn,
    *,
    workers: int = 1,
    tracker: Tracker | None = None,
    zones: ZoneCounter | None = None,
    style: Style = DEFAULT_STYLE,
    stop: threading.Event | None = None,
) -> Generator[Result, None, None]:
    """Results of a source in order, decoded and inferred ahead in threads. Closes the source at the end, once started.

    infer: such as `Segmenter.infer`. workers: frames of a file that are inferred at the same time. A live source has
    one worker, which takes the newest frame only when there is room for its result, so that no result grows old in a
    queue. tracker: gives the instances ids; zones: counts them; one of each for each source. stop: ends the stream
    early when set.
    Raises whatever the source or `infer` raised.
    """
    return stream_all([source], infer, workers=workers, trackers=[tracker], zones=[zones], style=style, stop=stop)


def stream_all(
    sources: Sequence[Source],
    infer: InferFn,
    *,
    workers: int = 1,
    trackers: Sequence[Tracker | None] | None = None,
    zones: Sequence[ZoneCounter | None] | None = None,
    style: Style = DEFAULT_STYLE,
    stop: threading.Event | None = None,
) -> Generator[Result, None, None]:
    """Results of several sources, each in order, as they become ready. Closes the sources at the end, once started.

    Of several that are ready, the source that has waited longest is next. `Result.source_number` is the position of a
    result's source in `sources`. workers: for each source. trackers, zones: None, or one or None for each source.
    Raises SourceError after the other sources have ended if some failed midway, which is also logged when it happens;
    anything else that a source or `infer` raises, at once.
    """
    check_count("workers", workers)
    trackers = trackers or [None] * len(sources)
    zones = zones or [None] * len(sources)
    queued = QUEUED_FRAMES if len(sources) == 1 else 1
    changed = threading.Condition()
    feeds: list[_Feed] = []  # that go on; the one that has waited longest comes first
    failures: list[SourceError] = []

    def end() -> None:
        with contextlib.ExitStack() as ending:
            for source in sources:
                ending.callback(source.close)
            for feed in feeds:
                feed.pending.close()
                ending.callback(feed.end)

    try:
        for number, source in enumerate(sources):
            feeds.append(_Feed(number, source, infer, workers, queued, changed))
        while feeds and not (stop is not None and stop.is_set()):
            feed = _ready(feeds, changed)
            if feed is None:
                continue
            feeds.remove(feed)
            feeds.append(feed)
            try:
                result = _result(feed, feed.pending.get(), trackers[feed.number], zones[feed.number], style)
            except (StreamClosed, SourceError) as error:
                feeds.remove(feed)
                feed.end()
                if isinstance(error, SourceError):
                    failures.append(error)
                    if len(sources) > 1:
                        log.error("source %d: %s", feed.number, first_line(error))
                continue
            yield result
    finally:
        clean_up(end)
    if len(failures) > 1:
        raise SourceError(f"{len(failures)} of {len(sources)} sources failed; the first: {failures[0]}")
    if failures:
        raise failures[0]


def _ready(feeds: Sequence[_Feed], changed: threading.Condition) -> _Feed | None:
    """The first that has a result or has ended; None if none has within a moment."""
    with changed:
        changed.wait_for(lambda: any(feed.pending.ready for feed in feeds), _POLL_SECONDS)
        return next((feed for feed in feeds if feed.pending.ready), None)


def _result(feed: _Feed, item: _Pending, tracker: Tracker | None, zones: ZoneCounter | None, style: Style) -> Result:
    source = feed.source
    frame = item.frame
    instances, timings = item.inferred.result()
    seconds = [item.wait_seconds, timings.pre, timings.session, timings.post]
    before_tracking = perf_counter()
    if tracker is not None:
        instances = tracker.update(instances, frame.time)
        seconds.append(perf_counter() - before_tracking)
    before_counting = perf_counter()
    counts = None if zones is None else zones.update(instances, frame.time)
    seconds += [] if zones is None else [perf_counter() - before_counting]
    stages = stage_names(live=source.live, tracked=tracker is not None, zones=zones is not None)
    seconds += [0.0, 0.0]  # drawing and writing are yet to come
    return Result(
        frame.image,
        instances,
        frame.source,
        frame.index,
        frame.time,
        frame.pts,
        dict(zip(stages, seconds, strict=True)),
        None if frame.arrived is None else perf_counter() - frame.arrived,
        source.dropped,
        source.reconnects,
        style,
        frame.pixel_aspect,
        counts,
        feed.number,
    )


def process(
    source: Source,
    infer: InferFn,
    sinks: Sinks | None = None,
    *,
    workers: int = 1,
    tracker: Tracker | None = None,
    zones: ZoneCounter | None = None,
    style: Style = DEFAULT_STYLE,
    viewer: Viewer | None = None,
    limit: int | None = None,
    stop: threading.Event | None = None,
    on_frame: Callable[[int], None] = lambda done: None,
) -> Summary:
    """Run a source through inference into sinks and viewer.

    Completes the sinks when the source ends, after `limit` frames, when `stop` is set or the user closes the viewer;
    and with the frames done so far when the source fails midway, before SourceError is raised. A sink that fails does
    not end the run while others, or the viewer, go on: WriteError is raised when they are complete. After any other
    failure they are neither completed nor discarded: that is for the with statement of whoever opened them.
    workers, tracker, zones, style: see `stream`. on_frame: called with the number of frames done.
    """
    sinks, stop = sinks or Sinks(), stop or threading.Event()
    meter = RunMeter(source, tracker, zones)
    ended_early = False
    results = stream(source, infer, workers=workers, tracker=tracker, zones=zones, style=style, stop=stop)
    with contextlib.closing(results):
        try:
            for result in results:
                before_writing = perf_counter()
                sinks.write(result)
                written = perf_counter() - before_writing
                result.stage_seconds["write"] = written - result.stage_seconds["draw"]
                if viewer is not None:
                    ended_early = not viewer.show(result, None if sinks else _show_at(source, result, meter.start))
                meter.add(result)
                on_frame(meter.frames)
                ended_early = ended_early or meter.frames == limit or (sinks.failed and viewer is None)
                if ended_early:
                    break
        except SourceError as error:
            if not meter.frames:
                raise
            kept = f"; saved: {counted(meter.frames, 'frame')} before that" if sinks else ""
            try:
                sinks.complete(interrupted=True)
            except WriteError as failure:
                kept = f"; {failure}"
            raise SourceError(f"{error}{kept}") from None
    interrupted = stop.is_set()
    before_completing = perf_counter()
    sinks.complete(interrupted=interrupted or ended_early)
    meter.add_completing(perf_counter() - before_completing)
    return meter.summary(interrupted=interrupted)


def _show_at(source: Source, result: Result, start: float) -> float | None:
    """When a result that is only watched makes room for the next: at once if live, never for a still image."""
    if source.live:
        return None
    return math.inf if source.timing is None else start + result.time
