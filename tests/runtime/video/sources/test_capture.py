import sys

import cv2
import pytest

from pumpseg.errors import SourceError
from pumpseg.video.sources import capture
from pumpseg.video.sources.capture import CameraSettings, DeviceCapture, open_device


class FakeDriver:
    """OpenCV's VideoCapture of a driver that grants 640x480 at most and reports no rate."""

    def __init__(self, *opened):
        self.opened, self.asked = opened, []
        self.size = [640, 480]

    def isOpened(self):  # noqa: N802
        return True

    def set(self, property_, value):
        self.asked.append(property_)
        if property_ in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT):
            axis = property_ - cv2.CAP_PROP_FRAME_WIDTH
            self.size[axis] = min(self.size[axis], int(value))

    def get(self, property_):
        return {
            cv2.CAP_PROP_FRAME_WIDTH: self.size[0],
            cv2.CAP_PROP_FRAME_HEIGHT: self.size[1],
            cv2.CAP_PROP_FOURCC: float(cv2.VideoWriter.fourcc(*"MJPG")),
        }.get(property_, 0.0)

    def read(self):
        return False, None

    def release(self):
        pass


def test_what_was_negotiated_with_the_driver(monkeypatch):
    monkeypatch.setattr(capture.cv2, "VideoCapture", FakeDriver)
    one = DeviceCapture(0, CameraSettings((320, 240), None))
    assert one.negotiated == "320x240 at 30 fps, MJPG"
    # The pixel format decides which sizes there are.
    asked = open_device(0, CameraSettings((320, 240), None)).asked
    assert asked.index(cv2.CAP_PROP_FOURCC) < asked.index(cv2.CAP_PROP_FRAME_WIDTH)
    assert DeviceCapture(0, CameraSettings((1920, 1080))).negotiated.endswith("not all that was requested")
    assert DeviceCapture(0, CameraSettings(fps=60)).negotiated.endswith("not all that was requested")
    with pytest.raises(SourceError, match="stopped delivering frames"):
        one.read()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="device paths are Linux's")
def test_a_device_path_is_not_opened_as_a_file(monkeypatch):
    monkeypatch.setattr(capture.cv2, "VideoCapture", FakeDriver)
    assert open_device("/dev/video2", CameraSettings()).opened == ("/dev/video2", cv2.CAP_V4L2)
