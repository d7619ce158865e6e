"""Cameras and models for the watch."""

import threading
import time
from fractions import Fraction

import numpy as np
import pytest

from pumpseg.errors import SourceError
from pumpseg.video.sources.camera import Camera


class NumberedCapture:
    """A camera whose pictures carry their number in every pixel; stops after `count` of them, hangs after `hang`."""

    skipped, negotiated, pixel_aspect = 0, "numbered", Fraction(1)

    def __init__(self, fps=100.0, count=None, hang=None, size=(48, 64)):
        self.rate = Fraction(fps)
        self.made, self._count, self._hang, self._size = 0, count, hang, size
        self._closed = threading.Event()

    def read(self):
        if self._closed.wait(None if self.made == self._hang else 1 / float(self.rate)) or self.made == self._count:
            raise SourceError("it stopped delivering frames")
        self.made += 1
        return np.full((*self._size, 3), self.made % 256, np.uint8), time.perf_counter()

    def close(self):
        self._closed.set()


@pytest.fixture
def numbered_camera():
    """Opens cameras that are closed at the end."""
    opened = []

    def make(name="numbered", **options):
        capture = NumberedCapture(**options)
        opened.append(Camera(name, lambda: capture, reconnect_timeout=0))
        return opened[-1], capture

    yield make
    for camera in opened:
        camera.close()
