"""The video loop: decoding, inference, and drawing with encoding overlap, each in a thread of its own.

OpenCV, ONNX Runtime and PyAV release the interpreter lock while they work, so threads are enough. Bounded
channels join the stages; an exception in any of them ends all and is raised where the results are taken.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pumpseg.draw import draw
from pumpseg.errors import SourceError
from pumpseg.frames import Frame, Source
from pumpseg.instances import Instances
from pumpseg.segmenter import Segmenter, Timings
from pumpseg.sinks import Sink

QUEUED_FRAMES = 4
_POLL_SECONDS = 0.1

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Result:
    """A frame, what was found in it, and the seconds that decoding it and each step of inference took."""

    frame: Frame
    instances: Instances
    decode: float
    timings: Timings


@dataclass(frozen=True)
class Summary:
    """What a run came to.

    seconds: from the first frame asked for to the last output closed. stages: milliseconds a frame of each
    stage, in the order in which a frame passes them; stages overlap, so they add up to more than the time a
    frame takes.
    """

    frames: int
    seconds: float
    dropped: int
    interrupted: bool
    stages: dict[str, float]

    @property
    def fps(self) -> float:
        return self.frames / self.seconds if self.seconds > 0 else 0.0

    def __str__(self) -> str:
        stages = ", ".join(f"{name} {milliseconds:.1f}" for name, milliseconds in self.stages.items())
        dropped = f", {self.dropped} dropped" if self.dropped else ""
        return f"{self.frames} frames in {self.seconds:.1f} s, {self.fps:.1f} fps{dropped}; ms a frame: {stages}"


class Window(Protocol):
    """Shows frames; `show` tells whether the user still wants to see more."""

    def show(self, image: NDArray[np.uint8], due: float | None = None) -> bool: ...

    def close(self) -> None: ...


class _EndedError(Exception):
    """A channel was closed by its other end."""


class _Channel(Generic[T]):
    """A bounded queue that both ends can end: the producer by finishing, the consumer by closing it."""

    def __init__(self, size: int) -> None:
        self._items: deque[T] = deque()
        self._size = size
        self._changed = threading.Condition()
        self._finished = False
        self._closed = False
        self._error: BaseException | None = None

    def put(self, item: T) -> None:
        """Wait for room. Raises _EndedError once the consumer has closed the channel."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) < self._size or self._closed)
            if self._closed:
                raise _EndedError
            self._items.append(item)
            self._changed.notify_all()

    def get(self, timeout: float | None = None) -> T | None:
        """The next item; None when the time is up.

        Raises _EndedError after the last item, or the producer's error in its place.
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
                raise _EndedError
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


def stream(
    source: Source, segmenter: Segmenter, *, stop: threading.Event | None = None
) -> Generator[Result, None, None]:
    """Results of a source in order, decoded and inferred ahead in threads. Closes the source in the end.

    stop: ends the stream early when set. Raises whatever the source or the segmenter raised.
    """
    # Between camera and screen a queue is nothing but delay, and a camera has a reader thread of its own.
    size = 1 if source.live else QUEUED_FRAMES
    decoded: _Channel[tuple[Frame, float]] = _Channel(size)
    results: _Channel[Result] = _Channel(size)

    def infer(frames: Iterable[tuple[Frame, float]]) -> None:
        for frame, decode_seconds in frames:
            instances, timings = segmenter.timed(frame.image)
            results.put(Result(frame, instances, decode_seconds, timings))

    def decode() -> None:
        for item in _timed(source):
            decoded.put(item)

    threads = [_start("infer", lambda: infer(_timed(source) if source.live else _received(decoded)), results)]
    if not source.live:
        threads.append(_start("decode", decode, decoded))
    try:
        while not (stop is not None and stop.is_set()):
            result = results.get(_POLL_SECONDS)
            if result is not None:
                yield result
    except _EndedError:
        return
    finally:
        results.close()
        decoded.close()
        if source.live:
            source.close()
        for thread in threads:
            thread.join()
        source.close()


def process(
    source: Source,
    segmenter: Segmenter,
    sinks: Sequence[Sink] = (),
    *,
    window: Window | None = None,
    stop: threading.Event | None = None,
    on_frame: Callable[[int], None] = lambda done: None,
) -> Summary:
    """Run a source through the segmenter into sinks and window.

    Completes every sink, also when `stop` is set, the user closes the window or a camera fails on the way; if
    anything else fails, discards them. Raises what failed. on_frame is told the number of frames done.
    """
    stop = stop or threading.Event()
    seconds = dict.fromkeys(("decode", "letterbox", "session", "select", "draw", "write"), 0.0)
    frames, window_closed = 0, False
    draws = window is not None or any(sink.draws for sink in sinks)
    start = perf_counter()
    results = stream(source, segmenter, stop=stop)
    try:
        for result in results:
            before_drawing = perf_counter()
            drawn = draw(result.frame.image, result.instances) if draws else None
            before_writing = perf_counter()
            for sink in sinks:
                sink.write(result.frame, result.instances, drawn)
            done = perf_counter()
            frames += 1
            for name, spent in (
                ("decode", result.decode),
                ("letterbox", result.timings.pre),
                ("session", result.timings.session),
                ("select", result.timings.post),
                ("draw", before_writing - before_drawing),
                ("write", done - before_writing),
            ):
                seconds[name] += spent
            on_frame(frames)
            if window is not None and drawn is not None:
                due = None if sinks else _due(source, result.frame, start)
                window_closed = not window.show(drawn, due)
                if window_closed:
                    break
        interrupted = stop.is_set()
        results.close()
        before_completing = perf_counter()
        _complete(sinks, interrupted=interrupted or window_closed)
        seconds["write"] += perf_counter() - before_completing
    except BaseException as error:
        results.close()
        # A file can be read again; what a camera saw before it failed cannot.
        if source.live and frames and isinstance(error, SourceError):
            _complete(sinks, interrupted=True)
        raise
    finally:
        if window is not None:
            window.close()
        for sink in sinks:
            # Does nothing to those that are complete.
            sink.discard()
    stages = {name: 1000 * spent / max(1, frames) for name, spent in seconds.items()}
    return Summary(frames, perf_counter() - start, source.dropped, interrupted, stages)


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


def _received(channel: _Channel[T]) -> Iterator[T]:
    while True:
        try:
            item = channel.get()
        except _EndedError:
            return
        assert item is not None
        yield item


def _start(name: str, work: Callable[[], None], output: _Channel[Any]) -> threading.Thread:
    """A thread that works until it is done, fails, or nobody takes its output any more."""

    def run() -> None:
        try:
            work()
        except _EndedError:
            output.finish()
        except BaseException as error:
            output.finish(error)
        else:
            output.finish()

    thread = threading.Thread(target=run, name=f"pumpseg-{name}", daemon=True)
    thread.start()
    return thread
