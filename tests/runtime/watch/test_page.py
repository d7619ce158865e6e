"""The page of a watch, as browsers and others see it."""

import json
import time
from datetime import UTC, datetime
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from chromium_tab import CHROMIUM, ChromiumTab
from page_client import fetch, watch
from websockets.exceptions import ConnectionClosedOK, InvalidStatus

from pumpseg.instances import Instances
from pumpseg.video import Result
from pumpseg.video.viewers.page_access import PageAddress
from pumpseg.watch import page as page_module
from pumpseg.watch.camera_events import Today
from pumpseg.watch.event import Event, new_event_id
from pumpseg.watch.figures import Meter
from pumpseg.watch.page import PageCamera, WatchPage
from pumpseg.watch.recent_events import RecentEvents
from pumpseg.zones import Line, Zone, ZoneCounter

TOKEN = "let-me-in-please"
JPEG = cv2.imencode(".jpg", np.full((48, 64, 3), 200, np.uint8))[1].tobytes()


def result(value=0, size=(120, 160)):
    instances = Instances.empty(size, ["pumpkin"]).with_track_ids(np.zeros(0, np.int64))
    return Result(np.full((*size, 3), value, np.uint8), instances, "x", 0, 0.0, latency=0.1)


@pytest.fixture
def served(tmp_path):
    """A page of two cameras, gate and yard, with an event each, and what its buttons did."""
    counter = ZoneCounter([Zone("front", [0, 0, 1, 0, 1, 1]), Line("road", [0, 0, 1, 1])])
    counts = counter.update(result().instances, 0.0)
    cameras = [
        PageCamera("gate", Meter(), lambda: Today(counts, 7, {"crowd": 2}, False)),
        PageCamera("yard", Meter(), lambda: Today(None, 0, {}, True)),
    ]
    cameras[0].meter.add(result())
    cameras[1].meter.end("lost", "no route to host")
    recent = RecentEvents(tmp_path)
    moment = datetime.now(UTC)
    recent.send(Event(new_event_id(), moment, "gate", "crowd", {"count": 3}, (1,), snapshot=JPEG))
    recent.send(Event(new_event_id(), moment, "yard", "gone", {"seconds": 0.0}))
    done = []
    model = SimpleNamespace(description="fast.onnx", swaps=0, problem="it is damaged")
    page = WatchPage(
        PageAddress("127.0.0.1", 0), TOKEN, cameras, recent, model, lambda: done.append("reload"), done.append
    )
    yield SimpleNamespace(page=page, recent=recent, done=done, url=page.url, cameras=cameras)
    page.close()


def next_picture(viewer):
    while isinstance(message := viewer.recv(timeout=20), str):
        pass
    return message[0], cv2.imdecode(np.frombuffer(message[1:], np.uint8), cv2.IMREAD_COLOR)


def test_the_state_and_the_pictures_of_all_cameras_arrive(served):
    served.page.show("gate", result(40))
    served.page.show("yard", result(200, (90, 160)))
    with watch(served.page) as viewer:
        state = json.loads(viewer.recv(timeout=20))
        pictures = dict(next_picture(viewer) for _ in range(2))
    gate, yard = state["cameras"]
    assert (gate["state"], gate["objects"], gate["events"]) == ("live", 7, {"crowd": 2})
    assert gate["zones"] == {"front": {"count": 0, "occupancy": 0, "entered": 0, "left": 0}}
    assert gate["lines"] == {"road": {"in": 0, "out": 0}}
    assert (yard["state"], yard["reason"]) == ("lost", "no route to host")
    assert [event["rule"] for event in state["events"]] == ["gone", "crowd"]
    assert state["model"] == {"description": "fast.onnx", "swaps": 0, "problem": "it is damaged"}
    assert abs(pictures[0].mean() - 40) < 2
    assert pictures[1].shape == (90, 160, 3)


def test_nothing_is_encoded_while_nobody_watches_and_once_for_all(served, monkeypatch):
    encoded, encode = [], page_module.encode_jpeg
    monkeypatch.setattr(page_module, "encode_jpeg", lambda one: encoded.append(one) or encode(one))
    for value in range(50):
        served.page.show("gate", result(value))
    time.sleep(0.3)
    assert encoded == []
    with watch(served.page) as first, watch(served.page) as second:
        next_picture(first)
        next_picture(second)
    assert len(encoded) == 1


def test_a_browser_that_shows_nothing_is_sent_no_queue(served):
    with watch(served.page) as viewer:
        received = 0
        end = time.monotonic() + 2
        value = 0
        while time.monotonic() < end:
            value += 1
            served.page.show("gate", result(value % 256))
            try:
                received += not isinstance(viewer.recv(timeout=0.02), str)
            except TimeoutError:
                continue
        assert received == 2
        viewer.send(json.dumps({"shown": 0}))
        served.page.show("gate", result(7))
        assert next_picture(viewer)[0] == 0


def test_a_camera_in_large_is_shown_alone_and_faster(served):
    with watch(served.page) as viewer:
        viewer.send(json.dumps({"focus": "yard"}))
        time.sleep(0.3)
        numbers = []
        end = time.monotonic() + 1
        while time.monotonic() < end:
            for name in ("gate", "yard"):
                served.page.show(name, result(3))
            try:
                message = viewer.recv(timeout=0.02)
            except TimeoutError:
                continue
            if not isinstance(message, str):
                numbers.append(message[0])
                viewer.send(json.dumps({"shown": message[0]}))
        assert set(numbers) == {1}
        assert len(numbers) > 1 / page_module.TILE_SECONDS + 1


def test_buttons_do_their_work(served):
    wrong = served.recent.newest()[1].id
    with watch(served.page) as viewer:
        viewer.send(json.dumps({"reload": True}))
        for _ in range(2):
            viewer.send(json.dumps({"wrong": wrong}))
        viewer.send(json.dumps({"wrong": "no such event"}))
        for nonsense in ("", "[1]", "3", '{"focus": "nobody"}', '{"shown": 9}', '{"shown": "x"}'):
            viewer.send(nonsense)
        end = time.monotonic() + 20
        while True:
            assert time.monotonic() < end
            message = viewer.recv(timeout=20)
            if isinstance(message, str) and any(event["wrong"] for event in json.loads(message)["events"]):
                break
    assert served.done == ["reload", wrong]


def test_an_events_picture_is_served_and_nothing_else(served):
    base = served.url.partition("?")[0]
    with_picture = served.recent.newest()[1]
    import urllib.request

    with urllib.request.urlopen(f"{base}event/{with_picture.id}.jpg?token={TOKEN}", timeout=20) as answer:
        assert answer.read() == JPEG
        assert answer.headers["Content-Type"] == "image/jpeg"
    for name in (served.recent.newest()[0].id, "../../etc/passwd", "x"):
        assert fetch(f"{base}event/{name}.jpg?token={TOKEN}")[0] == 404


def test_others_are_refused(served):
    base = served.url.partition("?")[0]
    event = f"event/{served.recent.newest()[1].id}.jpg"
    for path in ("", event, "live"):
        assert fetch(f"{base}{path}")[0] == 403
        assert fetch(f"{base}{path}?token=wrong")[0] == 403
        assert fetch(f"{base}{path}?token={TOKEN}", Host="evil.example")[0] == 403
        assert fetch(f"{base}{path}?token={TOKEN}", Origin="http://evil.example")[0] == 403
    with pytest.raises(InvalidStatus, match="403"):
        watch(served.page, additional_headers={"Origin": "http://evil.example"})
    assert served.done == []


def test_browsers_hear_of_the_end(served):
    with watch(served.page) as viewer:
        viewer.recv(timeout=20)
        served.page.close()
        with pytest.raises(ConnectionClosedOK):
            while True:
                viewer.recv(timeout=20)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
def test_a_browser_shows_tiles_events_and_buttons(served, tmp_path):
    browser = ChromiumTab(tmp_path / "chromium")
    try:
        served.page.show("gate", result(200))
        browser("Page.navigate", url=served.url)
        browser.until("document.getElementById('state')?.textContent === 'live'")
        browser.until("[...document.querySelectorAll('li img')].some(image => image.naturalWidth === 64)")
        text = browser.run("document.body.innerText")
        for part in (
            "gate",
            "7 today",
            "2 events",
            "front 0",
            "road 0 in",
            "no route to host",
            "crowd",
            "it is damaged",
        ):
            assert part in text, part
        pixel = "document.querySelector('canvas').getContext('2d').getImageData(9, 9, 1, 1).data[0]"
        browser.until(f"Math.abs({pixel} - 200) < 4")
        for width in (1440, 390):
            browser.picture(tmp_path / f"{width}.png", width, 844)
            assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        browser.run("document.getElementById('reload').click()")
        browser.run("[...document.querySelectorAll('li button')].at(-1).click()")
        browser.until("document.body.innerText.includes('marked as wrong')")
        assert served.done == ["reload", served.recent.newest()[1].id]
        browser("Page.navigate", url=served.url.partition("?")[0])
        browser.until("document.body?.innerText.includes('the token is missing or wrong')")
    finally:
        browser.close()
