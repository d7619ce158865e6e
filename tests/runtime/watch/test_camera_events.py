"""From results to counts and events, and over a restart."""

from datetime import datetime

import cv2
import numpy as np
import pytest

from pumpseg.errors import SinkError
from pumpseg.instances import Instances
from pumpseg.video import Result
from pumpseg.video.tracking import Tracker
from pumpseg.watch.camera_events import CameraEvents
from pumpseg.watch.rule_evaluator import NamedRule
from pumpseg.watch.rules import parse_rule
from pumpseg.watch.sinks.event_sink import EventSink
from pumpseg.watch.snapshot import Blur
from pumpseg.watch.state import StateFolder
from pumpseg.zones import Line, Zone

SHAPES = [Zone("left", [0, 0, 0.5, 0, 0.5, 1, 0, 1]), Line("middle", [0.5, 0, 0.5, 1])]


class Kept(EventSink):
    """Keeps events; notes what is on the disk at that moment."""

    def __init__(self, folder):
        self.events, self.states, self._folder = [], [], folder

    def send(self, event):
        self.events.append(event)
        self.states.append(self._folder.load(event.camera))


class Scene:
    """A camera's events, fed with an object at a place, 10 frames a second."""

    def __init__(self, path, rules, **options):
        self.folder = StateFolder(path)
        self.sink = Kept(self.folder)
        self.time, self.day = 0.0, 27
        self.tracker = Tracker()
        rules = [NamedRule(name, parse_rule(text), cooldown) for name, text, cooldown in rules]
        self.events = CameraEvents(
            "gate",
            SHAPES,
            rules,
            self.sink,
            self.folder,
            tracker=self.tracker,
            clock=lambda: self.time,
            now=lambda: datetime(2026, 11, self.day),
            **options,
        )

    def show(self, *lefts):
        self.time += 0.1
        boxes = np.array([[4 * left, 32, 4 * left + 64, 96] for left in lefts], np.float32).reshape(-1, 4)
        count = len(boxes)
        found = Instances.in_frame(
            boxes,
            np.full(count, 0.9, np.float32),
            np.zeros(count, np.int64),
            np.ones((count, 4, 4)),
            (192, 384),
            ["pumpkin"],
        )
        frame = np.random.default_rng(0).integers(0, 256, (192, 384, 3), np.uint8)
        found = self.tracker.update(found, self.time)
        counts = self.events.counter.update(found, self.time)
        self.events.on_result(Result(frame, found, "x", 0, self.time, latency=0.05, counts=counts))

    def rules(self):
        return [event.rule for event in self.sink.events]


@pytest.fixture
def scene(tmp_path):
    opened = []

    def make(*rules, **options):
        if opened:
            opened[-1].folder.close()
        opened.append(Scene(tmp_path, rules, **options))
        return opened[-1]

    yield make
    for one in opened:
        one.folder.close()


def test_an_object_that_crosses_is_an_event_with_its_picture(scene):
    gate = scene(("passed", "crossed(middle)", 0), blur=Blur())
    for left in range(4, 80, 3):
        gate.show(left)
    assert gate.rules() == ["passed"]
    event = gate.sink.events[0]
    assert (event.camera, event.track_ids) == ("gate", (1,))
    assert event.values["line"] == "middle"
    picture = cv2.imdecode(np.frombuffer(event.snapshot, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (192, 384, 3)
    assert event.blurred_snapshot not in (None, event.snapshot)
    today = gate.events.today()
    assert (today.objects, today.events, today.lost) == (1, {"passed": 1}, False)
    line = today.counts.lines["middle"]
    assert sum(line.crossed_in.values()) + sum(line.crossed_out.values()) == 1


def test_what_was_decided_is_on_the_disk_before_it_is_sent(scene):
    gate = scene(("crowd", "count(left) >= 1 for 1 s", 60))
    for _ in range(30):
        gate.show(4)
    assert gate.rules() == ["crowd"]
    assert not gate.sink.states[0]["rules"]["crowd"]["armed"]
    assert gate.sink.states[0]["events"] == {"crowd": 1}


def test_counts_and_cool_down_survive_a_process_that_was_killed(scene):
    gate = scene(("crowd", "count(left) >= 1", 60), ("passed", "crossed(middle)", 0))
    for left in range(4, 80, 3):
        gate.show(left)
    assert sorted(gate.rules()) == ["crowd", "passed"]
    # Nothing is saved at the end: this is what kill -9 leaves.
    again = scene(("crowd", "count(left) >= 1", 60), ("passed", "crossed(middle)", 0))
    before = again.events.today()
    assert (before.objects, before.events) == (1, {"crowd": 1, "passed": 1})
    for _ in range(10):
        again.show(4)
    today = again.events.today()
    assert again.rules() == [], "the cool-down goes on"
    assert today.objects == 2, "ids go on counting"
    line = today.counts.lines["middle"]
    assert sum(line.crossed_in.values()) + sum(line.crossed_out.values()) == 1


def test_a_new_day_begins_at_zero(scene):
    gate = scene(("crowd", "count(left) >= 1", 0))
    for left in range(4, 80, 3):
        gate.show(left)
    gate.day = 28
    gate.events.tick()
    gate.show(70)
    today = gate.events.today()
    assert (today.objects, today.events) == (0, {})
    assert not today.counts.zones["left"].entered
    again = scene(("crowd", "count(left) >= 1", 0))
    again.day = 29
    again.events.tick()
    assert again.events.today().events == {}


def test_a_lost_camera_is_reported_once_and_when_it_is_back(scene):
    gate = scene(("gone", "camera lost for 5 s", 0), ("back", "camera back", 0))
    gate.show(4)
    gate.events.on_lost("no route")
    for _ in range(20):
        gate.time += 1
        gate.events.tick()
    assert gate.events.today().lost
    assert gate.rules() == ["gone"]
    assert gate.sink.events[0].snapshot is None
    gate.show(4)
    assert gate.rules() == ["gone", "back"]
    assert not gate.events.today().lost


@pytest.mark.parametrize("state", [{"zones": 3}, {"day": "x"}, {"rules": {"crowd": {}}}, {"events": [1]}])
def test_a_state_of_something_else_is_set_aside(scene, tmp_path, state, caplog):
    with StateFolder(tmp_path) as folder:
        folder.save("gate", state)
    gate = scene(("crowd", "count(left) >= 1", 0))
    assert "the state of gate cannot be used" in caplog.text
    for _ in range(10):
        gate.show(4)
    assert gate.rules() == ["crowd"]


def test_a_full_disk_is_logged_and_the_watch_goes_on(scene, monkeypatch, caplog):
    gate = scene(("crowd", "count(left) >= 1", 0))

    def fail(*_, **__):
        raise SinkError("no space left on device")

    monkeypatch.setattr(gate.folder, "save", fail)
    for _ in range(10):
        gate.show(4)
    assert gate.rules() == ["crowd"]
    assert "no space left" in caplog.text
