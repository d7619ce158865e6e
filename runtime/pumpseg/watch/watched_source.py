"""A camera's frames as they are watched: taken when it is the camera's turn, turned, and with parts blackened."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from pumpseg.opencv import cv2
from pumpseg.video.sources.camera import Camera
from pumpseg.video.sources.frame_source import Frame, Source
from pumpseg.watch.turns import Turns

Points = Sequence[tuple[float, float]]

_ROTATIONS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


def in_pixels(points: Points, frame_size: tuple[int, int]) -> list[tuple[float, float]]:
    """Points in pixels of a frame of (height, width); given in pixels, or as shares of its sides if none is above 1."""
    if any(coordinate > 1 for point in points for coordinate in point):
        return [(float(x), float(y)) for x, y in points]
    height, width = frame_size
    return [(x * width, y * height) for x, y in points]


class WatchedSource(Source):
    """The frames of a camera, each taken only when it is this camera's turn: it is the newest at that moment.

    After each frame, `end_turn` must be called when the frame needs the model no more. first_time: on the clock of
    `time.perf_counter`, when `time` of frames is 0: the same for all connections to a camera. rotate: degrees
    clockwise. mask_out: polygons to blacken, after rotation, see `in_pixels`. fps: at most so many frames a second.
    """

    live = True

    def __init__(
        self,
        camera: Camera,
        turns: Turns,
        *,
        first_time: float,
        rotate: int = 0,
        mask_out: Sequence[Points] = (),
        fps: float | None = None,
    ) -> None:
        self.name, self.timing = camera.name, camera.timing
        self._camera, self._turns = camera, turns
        self._first_time = first_time
        self._rotate, self._mask_out = rotate, tuple(mask_out)
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
                yield self._prepared(frame)
        finally:
            self.end_turn()

    def end_turn(self) -> None:
        """Let the next camera have its turn. Does nothing if this one has none."""
        with self._turn_lock:
            had, self._has_turn = self._has_turn, False
        if had:
            self._turns.give_back()

    def close(self) -> None:
        self._closing.set()
        self._camera.close()

    def _prepared(self, frame: Frame) -> Frame:
        image, aspect = frame.image, frame.pixel_aspect
        if self._rotate:
            image = cv2.rotate(image, _ROTATIONS[self._rotate])  # type: ignore[assignment]
            aspect = Fraction(1) / aspect if self._rotate != 180 else aspect
        if self._mask_out:
            image = blackened(image, self._mask_out)
        arrived = frame.arrived if frame.arrived is not None else perf_counter()
        return replace(frame, image=image, pixel_aspect=aspect, time=arrived - self._first_time)


def blackened(image: NDArray[np.uint8], polygons: Sequence[Points]) -> NDArray[np.uint8]:
    """The image with what the polygons cover black, uint8 BGR (H, W, 3); in place where it can be written."""
    image = image if image.flags.writeable and image.flags.c_contiguous else image.copy()
    corners = [np.round(in_pixels(polygon, image.shape[:2])).astype(np.int32) for polygon in polygons]
    for polygon in corners:
        cv2.fillPoly(image, [polygon], (0, 0, 0))
    return image
