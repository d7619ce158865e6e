import re
import threading
import time
from fractions import Fraction

import cv2
import numpy as np
import pytest

from pumpseg.errors import SourceError
from pumpseg.video.sources import camera, capture
from pumpseg.video.sources.camera import Camera
from pumpseg.video.sources.capture import CameraSettings, DeviceCapture, redacted
from pumpseg.video.sources.open import open_source


class FakeCapture:
    """A capture of `frames` frames, one every `interval` seconds, that then fails as told."""

    rate, negotiated = Fraction(30), "4x4 at 30 fps"

    def __init__(self, frames, interval=0.0, failure=None, skips=0):
        self.skipped, self.skips = 0, skips
        self.left, self.interval, self.failure = frames, interval, failure or SourceError("it stopped giving frames")
        self.closed = threading.Event()
        self.number = 0

    def read(self):
        time.sleep(self.interval)
        if self.number == self.left:
            raise self.failure
        self.number += 1
        self.skipped += self.skips
        return np.full((4, 4, 3), self.number, np.uint8), time.perf_counter()

    def close(self):
        self.closed.set()


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(camera, "FIRST_DELAY", 0.01)


def connecting_to(*captures):
    """Connects to each in turn; an exception among them is raised."""
    left = list(captures)

    def connect():
        one = left.pop(0)
        if isinstance(one, Exception):
            raise one
        return one

    return connect


def test_the_newest_frame_wins_and_the_others_are_counted():
    source = Camera("webcam:3", connecting_to(FakeCapture(1000, 0.005)))
    assert source.live
    frames = iter(source)
    first = next(frames)
    time.sleep(0.3)
    second = next(frames)
    source.close()
    assert (first.index, second.index) == (0, 1)
    assert int(second.image[0, 0, 0]) > int(first.image[0, 0, 0]) + 5
    assert source.dropped > 5
    assert second.time > 0.1
    assert second.pts == pytest.approx(1000 * second.time, abs=1)


@pytest.mark.alone
@pytest.mark.parametrize(("asked_after", "number"), [(2.95, 4), (2.5, 3)], ids=["nearly old", "fresh"])
def test_a_frame_that_is_about_to_be_replaced_is_left_for_the_next(asked_after, number):
    interval = 0.4
    source = Camera("webcam:3", connecting_to(FakeCapture(1000, interval)))
    frames = iter(source)
    first = next(frames)
    time.sleep(first.arrived + asked_after * interval - time.perf_counter())
    second = next(frames)
    source.close()
    assert int(second.image[0, 0, 0]) == int(first.image[0, 0, 0]) + number - 1
    assert source.dropped == number - 2


def test_a_camera_that_has_stopped_is_not_waited_for():
    one = FakeCapture(1000, 0.1)
    source = Camera("webcam:3", connecting_to(one))
    frames = iter(source)
    for _ in range(3):
        next(frames)
    one.interval = 1.5
    time.sleep(0.5)  # one more comes, and then none
    start = time.perf_counter()
    next(frames)
    assert time.perf_counter() - start < 0.05
    source.close()


def test_frames_that_were_thrown_away_undecoded_are_counted_too():
    source = Camera("rtsp://x", connecting_to(FakeCapture(3, 0.05, skips=7)), patience=0)
    with pytest.raises(SourceError, match="is lost"):
        list(source)
    assert source.dropped in (14, 21)  # of the first frame it depends on who was quicker


def test_frames_before_anybody_asked_are_not_counted_as_dropped():
    source = Camera("webcam", connecting_to(FakeCapture(1000, 0.005)))
    time.sleep(0.1)
    assert source.dropped == 0
    source.close()


def test_a_lost_camera_comes_back(quick, caplog):
    captures = [FakeCapture(3, 0.01), *[SourceError("is not there")] * 2, FakeCapture(0), FakeCapture(10**6, 0.01)]
    with caplog.at_level("INFO", "pumpseg"):
        source = Camera("cam", connecting_to(*captures))
        frames = iter(source)
        while source.reconnects == 0:
            frame = next(frames)
    source.close()
    assert captures[0].closed.is_set()
    assert captures[3].closed.is_set()
    assert caplog.messages[:-1] == [
        "cam: 4x4 at 30 fps",
        "cam is lost: it stopped giving frames",
        "cam is still lost: is not there",
        "cam is still lost: it stopped giving frames",
    ]
    assert re.fullmatch(r"cam is back after \d+ s", caplog.messages[-1])
    assert source.reconnects == 1
    assert frame.pts > 3


def test_patience_has_an_end(quick):
    never = [SourceError("is not there")] * 100
    source = Camera("cam", connecting_to(FakeCapture(1), *never), patience=0.05)
    with pytest.raises(SourceError, match=r"cam is lost and did not come back within 0\.05 s: is not there"):
        list(source)
    source.close()


def test_no_patience_at_all():
    source = Camera("cam", connecting_to(FakeCapture(2, 0.01)), patience=0)
    with pytest.raises(SourceError, match="cam is lost and did not come back: it stopped giving frames"):
        list(source)
    source.close()


def test_delays_grow_to_a_limit(monkeypatch):
    waited = []
    monkeypatch.setattr(camera, "FIRST_DELAY", 1.0)
    monkeypatch.setattr(camera, "MAX_DELAY", 5.0)
    source = Camera("cam", connecting_to(FakeCapture(1, 0.5), *[SourceError("gone")] * 5, FakeCapture(10**6, 0.01)))
    monkeypatch.setattr(source._closing, "wait", lambda seconds: waited.append(seconds))
    frames = iter(source)
    while source.reconnects == 0:
        next(frames)
    source.close()
    assert waited == [1, 2, 4, 5, 5, 5]


def test_an_exception_of_the_reader_is_raised_where_frames_are_taken():
    with pytest.raises(RuntimeError, match="driver"):
        list(Camera("cam", connecting_to(FakeCapture(0, failure=RuntimeError("driver")))))


def test_closing_ends_the_iteration_and_the_capture():
    fake = FakeCapture(10**6, 0.01)
    source = Camera("cam", connecting_to(fake))
    threading.Timer(0.1, source.close).start()
    assert list(source)
    assert fake.closed.wait(5)


def test_closing_while_a_lost_camera_is_waited_for():
    source = Camera("cam", connecting_to(FakeCapture(1), SourceError("gone"), SourceError("gone")))
    threading.Timer(0.2, source.close).start()
    start = time.monotonic()
    assert len(list(source)) <= 1
    assert time.monotonic() - start < 2


def test_a_camera_that_is_not_there(capfd):
    for name in ("webcam:87", "/dev/video87"):
        with pytest.raises(SourceError, match=f"{name} cannot be opened: no such camera"):
            open_source(name)
    assert capfd.readouterr() == ("", "")


class FakeDriver:
    """OpenCV's VideoCapture of a driver that grants 640x480 at most and never says its rate."""

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


def test_what_the_driver_granted_is_told(monkeypatch):
    monkeypatch.setattr(capture.cv2, "VideoCapture", FakeDriver)
    one = DeviceCapture(0, CameraSettings((320, 240), None))
    assert one.negotiated == "320x240 at 30 fps, MJPG"
    # The pixel format decides which sizes there are.
    asked = one._capture.asked
    assert asked.index(cv2.CAP_PROP_FOURCC) < asked.index(cv2.CAP_PROP_FRAME_WIDTH)
    assert DeviceCapture(0, CameraSettings((1920, 1080))).negotiated.endswith("not all that was asked for")
    assert DeviceCapture(0, CameraSettings(fps=60)).negotiated.endswith("not all that was asked for")
    with pytest.raises(SourceError, match="stopped giving frames"):
        one.read()


@pytest.mark.skipif("not __import__('sys').platform.startswith('linux')", reason="device paths are Linux's")
def test_a_device_path_is_not_taken_for_a_file(monkeypatch):
    monkeypatch.setattr(capture.cv2, "VideoCapture", FakeDriver)
    assert DeviceCapture("/dev/video2", CameraSettings())._capture.opened == ("/dev/video2", cv2.CAP_V4L2)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://cam/stream", "rtsp://cam/stream"),
        ("rtsp://user:p@ss:word@cam:554/stream", "rtsp://user:***@cam:554/stream"),
        ("http://user@cam/a@b", "http://user@cam/a@b"),
        ("http://cam/x:y@z", "http://cam/x:y@z"),
        ("http://cam:80/x:y@z", "http://cam:80/x:y@z"),
        ("rtsp://admin:se/cret@cam/1", "rtsp://admin:***@cam/1"),
        ("http://cam/v.cgi?user=me&pwd=secret&res=2", "http://cam/v.cgi?user=me&pwd=***&res=2"),
        ("http://cam/v?channel=1&access_token=a%20b#x", "http://cam/v?channel=1&access_token=***#x"),
    ],
)
def test_passwords_are_not_shown(url, shown):
    assert redacted(url) == shown
