import re
import threading
import time
from fractions import Fraction

import numpy as np
import pytest

from pumpseg.errors import SourceError
from pumpseg.video.sources import camera
from pumpseg.video.sources.camera import Camera
from pumpseg.video.sources.open import open_source


class FakeCapture:
    """A capture of `frames` frames, one every `interval` seconds, that then fails."""

    rate, negotiated, pixel_aspect = Fraction(30), "4x4 at 30 fps", Fraction(12, 11)

    def __init__(self, frames, interval=0.0, failure=None, skips=0):
        self.skipped, self.skips = 0, skips
        self.left, self.interval, self.failure = (
            frames,
            interval,
            failure or SourceError("it stopped delivering frames"),
        )
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
    assert {first.pixel_aspect, second.pixel_aspect} == {Fraction(12, 11)}
    assert source.dropped > 5
    assert 0 < second.time < 10
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
    source = Camera("rtsp://x", connecting_to(FakeCapture(3, 0.05, skips=7)), reconnect_timeout=0)
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
        "cam is lost: it stopped delivering frames",
        "cam is still lost: is not there",
        "cam is still lost: it stopped delivering frames",
    ]
    assert re.fullmatch(r"cam is back after \d+ s", caplog.messages[-1])
    assert source.reconnects == 1
    assert frame.pts > 3


def test_reconnecting_has_a_timeout(quick):
    never = [SourceError("is not there")] * 100
    source = Camera("cam", connecting_to(FakeCapture(1), *never), reconnect_timeout=0.05)
    with pytest.raises(SourceError, match=r"cam is lost and did not come back within 0\.05 s: is not there"):
        list(source)
    source.close()


def test_a_timeout_of_zero_gives_up_at_once():
    source = Camera("cam", connecting_to(FakeCapture(2, 0.01)), reconnect_timeout=0)
    with pytest.raises(SourceError, match="cam is lost: it stopped delivering frames"):
        list(source)
    source.close()


def test_delays_grow_to_a_limit(monkeypatch):
    waited = []
    monkeypatch.setattr(camera, "FIRST_DELAY", 1.0)
    monkeypatch.setattr(camera, "MAX_DELAY", 5.0)
    captures = connecting_to(FakeCapture(1, 0.5), *[SourceError("gone")] * 5, FakeCapture(10**6, 0.01))
    source = Camera("cam", captures, wait=waited.append)
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


def test_a_camera_that_hangs_delays_the_end_once_only(monkeypatch):
    monkeypatch.setattr(camera, "CLOSE_SECONDS", 0.3)
    hangs = threading.Event()

    class Hanging(FakeCapture):
        def read(self):
            hangs.wait(30)
            raise SourceError("lost")

    source = Camera("c", lambda: Hanging(0), reconnect_timeout=0)
    before = time.monotonic()
    source.close()
    once = time.monotonic() - before
    source.close()
    assert time.monotonic() - before < once + 0.2
    hangs.set()
