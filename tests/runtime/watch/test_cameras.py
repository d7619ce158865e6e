"""One watched camera: lost, back, off; real sources are in test_run_live.py."""

import itertools
import threading
import time
from datetime import datetime
from functools import partial

import numpy as np
import pytest

from pumpseg.errors import SourceError
from pumpseg.instances import Instances
from pumpseg.timings import Timings
from pumpseg.video.sources.camera import Camera
from pumpseg.video.turns import Turns
from pumpseg.watch import cameras
from pumpseg.watch.cameras import WatchedCamera, open_camera
from pumpseg.watch.config import CameraSection
from pumpseg.watch.hours import Schedule

ALWAYS = Schedule()


class Model:
    """Finds nothing; fails on as many frames as it is told."""

    def __init__(self, failures=0):
        self.failures = failures

    def infer(self, frame):
        if self.failures:
            self.failures -= 1
            raise RuntimeError("the GPU fell off the bus")
        return Instances.empty(frame.image.shape[:2]), Timings()


class Notes:
    """What an observer saw, in order."""

    def __init__(self):
        self.seen, self.results = [], []

    def on_result(self, result):
        self.results.append(result)
        self.seen.append("result")

    def on_lost(self, reason):
        self.seen.append(f"lost: {reason}")

    def on_back(self):
        self.seen.append("back")

    def wait(self, text, count=1):
        end = time.monotonic() + 20
        while sum(one.startswith(text) for one in self.seen) < count:
            assert time.monotonic() < end, self.seen
            time.sleep(0.01)

    def without_repeats(self):
        return [one for one, before in zip(self.seen, [None, *self.seen], strict=False) if one != before]


@pytest.fixture
def watch(monkeypatch):
    """Watches the cameras that `opened` make, one after the other, until the end of the test."""
    monkeypatch.setattr(cameras, "FIRST_DELAY", 0.05)
    started = []

    def start(opened, model=None, schedule=ALWAYS, now=datetime.now, turns=None):
        opened = iter(opened)

        def open_next(section, ring):
            camera = next(opened, None)
            if camera is None:
                raise SourceError("it is away")
            return camera()[0]

        monkeypatch.setattr(cameras, "open_camera", open_next)
        notes = Notes()
        section = CameraSection(name="gate", source="x")
        camera = WatchedCamera(section, model or Model(), turns or Turns(1), schedule, notes, now=now)
        started.append(camera)
        camera.start()
        return camera, notes

    yield start
    for camera in started:
        camera.stop()
    assert all(camera.join(20) for camera in started)


def test_a_camera_is_lost_once_and_back_once(watch, numbered_camera):
    short = partial(numbered_camera, count=10)
    camera, notes = watch([short, None, short, numbered_camera])
    notes.wait("back", 2)
    notes.wait("result", 25)
    assert notes.without_repeats()[:7] == [
        "result",
        "lost: numbered is lost: it stopped delivering frames",
        "back",
        "result",
        "lost: numbered is lost: it stopped delivering frames",
        "back",
        "result",
    ]
    figures = camera.meter.figures()
    assert (figures.state, figures.reconnects) == ("live", 2)
    times = [result.time for result in notes.results]
    assert times == sorted(times), "time goes on over a loss, so that tracks can, too"


def test_a_camera_that_is_too_slow_to_follow_objects_is_logged_once(watch, numbered_camera, caplog):
    camera, notes = watch([numbered_camera])
    camera.meter.min_fps, camera.meter.clock = 1.0, itertools.count(0, 5).__next__
    notes.wait("result", 15)
    messages = [message for message in caplog.messages if "too few to follow objects" in message]
    assert len(messages) == 1
    assert "track = false" in messages[0]


def test_a_camera_that_is_away_from_the_beginning_is_waited_for(watch, numbered_camera):
    _, notes = watch([None, None, numbered_camera])
    notes.wait("result")
    assert notes.without_repeats()[:3] == ["lost: it is away", "back", "result"]


def test_an_error_of_the_model_ends_nothing(watch, numbered_camera, caplog):
    turns = Turns(1)
    camera, notes = watch([numbered_camera, numbered_camera], Model(failures=1), turns=turns)
    notes.wait("result")
    assert notes.without_repeats()[:2] == ["lost: the GPU fell off the bus", "back"]
    assert "gate: watching it failed; it is tried again" in caplog.text
    camera.stop()
    assert camera.join(20)
    turns.take()  # no turn was kept


def test_out_of_its_hours_a_camera_is_closed(watch, numbered_camera):
    hour = [7]
    opened, _ = numbered_camera()
    schedule = Schedule.parse(["06:00-08:00"], [])
    now = lambda: datetime(2026, 11, 28, hour[0])  # noqa: E731
    camera, notes = watch([lambda: (opened, None), numbered_camera], schedule=schedule, now=now)
    notes.wait("result")
    hour[0] = 9
    camera.tick()
    end = time.monotonic() + 10
    while camera.meter.figures().state != "off":
        assert time.monotonic() < end
        time.sleep(0.01)
    assert opened.take() is None, "it is closed"
    before = len(notes.results)
    hour[0] = 6
    notes.wait("result", before + 1)
    assert notes.without_repeats() == ["result"], "that is no loss"


def test_videos_are_cameras_and_pictures_are_not(clip, tmp_path):
    camera = open_camera(CameraSection(name="clip", source=str(clip)))
    assert isinstance(camera, Camera)
    assert next(iter(camera)).image.shape == (64, 96, 3)
    camera.close()
    import cv2

    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(SourceError, match="is not a video or a camera"):
        open_camera(CameraSection(name="x", source=str(tmp_path / "x.png")))


def test_threads_end(watch, numbered_camera):
    camera, notes = watch([numbered_camera])
    notes.wait("result", 3)
    camera.stop()
    assert camera.join(20)
    assert not [thread for thread in threading.enumerate() if thread.name == "pumpseg-watch-gate"]
