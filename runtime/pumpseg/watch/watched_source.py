"""A camera's frames as they are watched: taken when it is the camera's turn, turned, and with parts blackened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from pumpseg.opencv import cv2
from pumpseg.video.sources.camera import Camera
from pumpseg.video.sources.frame_source import Frame
from pumpseg.video.sources.in_turn import InTurn
from pumpseg.video.turns import Turns

Points = Sequence[tuple[float, float]]

_ROTATIONS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


def in_pixels(points: Points, frame_size: tuple[int, int]) -> list[tuple[float, float]]:
    """Points in pixels of a frame of (height, width); given in pixels, or as shares of its sides if none is above 1."""
    if any(coordinate > 1 for point in points for coordinate in point):
        return [(float(x), float(y)) for x, y in points]
    height, width = frame_size
    return [(x * width, y * height) for x, y in points]


class WatchedSource(InTurn):
    """The frames of a camera in its turn, as they are watched.

    first_time: on the clock of `time.perf_counter`, when `time` of frames is 0: the same for all connections to a
    camera. rotate: degrees clockwise. mask_out: polygons to blacken, after rotation, see `in_pixels`. fps: at most so
    many frames a second.
    """

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
        super().__init__(camera, turns, fps=fps)
        self._first_time = first_time
        self._rotate, self._mask_out = rotate, tuple(mask_out)

    def __iter__(self) -> Iterator[Frame]:
        for frame in super().__iter__():
            yield self._prepared(frame)

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
