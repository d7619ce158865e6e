"""The frames of one of several cameras that share a model: each taken when it is the camera's turn."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from time import perf_counter

from pumpseg.video.sources.camera import Camera
from pumpseg.video.sources.frame_source import Frame, Source
from pumpseg.video.turns import Turns


class InTurn(Source):
    """The frames of a camera, each taken only when it is this camera's turn: it is the newest at that moment.

    fps: at most so many frames a second.
    """

    live = True

    def __init__(self, camera: Camera, turns: Turns, *, fps: float | None = None) -> None:
        self.name, self.timing = camera.name, camera.timing
        self._camera, self._turns = camera, turns
        self._interval = 1 / fps if fps else 0.0
        self._closing = threading.Event()
        self._turn_lock = threading.Lock()
        self._has_turn = False

    def __iter__(self) -> Iterator[Frame]:
        due = perf_counter()
        try:
            while not self._closing.wait(max(0.0, due - perf_counter())) and self._camera.wait_for_frame():
                self._turns.take()
                self._has_turn = True
                frame = self._camera.take()
                if frame is None:
                    return
                due = max(due, perf_counter() - self._interval) + self._interval
                self.dropped, self.reconnects = self._camera.dropped, self._camera.reconnects
                yield frame
        finally:
            self.end_turn()

    def end_turn(self) -> None:
        """Let the next camera have its turn, after each frame. Does nothing if this one has none."""
        with self._turn_lock:
            had, self._has_turn = self._has_turn, False
        if had:
            self._turns.give_back()

    def close(self) -> None:
        self._closing.set()
        self._camera.close()
