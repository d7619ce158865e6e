"""A camera of pictures whose last seconds are kept, as those of a stream are by `StreamCapture`."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pumpseg.opencv import cv2
from pumpseg.video.sources.capture import Capture
from pumpseg.video.sources.packet_ring import PacketRing, StreamFormat

_TIME_BASE = Fraction(1, 90_000)
_JPEG_QUALITY = 85


class RingCapture:
    """A capture of pictures, such as a USB camera, whose frames also go into a ring, as JPEG.

    A frame is encoded after it has been handed on, in the time in which the next one is waited for.
    """

    def __init__(self, capture: Capture, ring: PacketRing) -> None:
        self._capture, self._ring = capture, ring
        self._frame: tuple[NDArray[np.uint8], float] | None = None
        self._size = (0, 0)
        self.rate, self.negotiated = capture.rate, capture.negotiated
        self.skipped, self.pixel_aspect = capture.skipped, capture.pixel_aspect

    def read(self) -> tuple[NDArray[np.uint8], float]:
        frame, self._frame = self._frame, None
        if frame is not None:
            self._keep(*frame)
        self._frame = self._capture.read()
        self.skipped, self.pixel_aspect = self._capture.skipped, self._capture.pixel_aspect
        return self._frame

    def _keep(self, image: NDArray[np.uint8], arrived: float) -> None:
        size = (image.shape[1], image.shape[0])
        if size != self._size:
            self._size = size
            self._ring.begin(StreamFormat("mjpeg", size, self.rate, _TIME_BASE))
        jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
        moment = round(arrived / _TIME_BASE)
        self._ring.add(jpeg, moment, moment, is_keyframe=True, arrived=arrived)

    def close(self) -> None:
        self._capture.close()
