"""The whole watch on clips; test_run_live.py has servers and faults."""

import json
import threading
import time
from pathlib import Path

from page_client import fetch

from pumpseg.watch.config import parse_config
from pumpseg.watch.run import Watch


class Manager:
    """A service manager that notes what it hears."""

    watchdog_seconds = 1.0

    def __init__(self):
        self.heard = []

    def ready(self, status):
        self.heard.append("ready")

    def alive(self, status):
        self.heard.append("alive")

    def stopping(self):
        self.heard.append("stopping")


def test_two_cameras_are_watched_until_the_end(clip, model_path, tmp_path):
    text = f"""
[model]
file = "{model_path}"
[health]
address = "127.0.0.1:0"
[[camera]]
name = "left"
source = "{clip}"
[[camera]]
name = "right"
source = "{clip}"
rotate = 180
track = false
[collect]
folder = "hard"
random_share = 1.0
"""
    manager, stop, failures = Manager(), threading.Event(), []
    before = set(threading.enumerate())
    with Watch(parse_config(text, tmp_path / "cameras.toml"), manager) as watch:

        def look():
            try:
                end = time.monotonic() + 20
                while (
                    min(camera.meter.figures().frames for camera in watch.cameras) < 10 or "alive" not in manager.heard
                ):
                    assert time.monotonic() < end
                    time.sleep(0.05)
                status, body, _ = fetch(f"{watch.health.url}healthz")
                assert (status, json.loads(body)["status"]) == (200, "ok")
                assert json.loads(body)["cameras"]["left"]["instances"] != {}
            except BaseException as error:
                failures.append(error)
            stop.set()

        thread = threading.Thread(target=look)
        thread.start()
        watch.run(stop)
        thread.join(timeout=20)
        assert not failures
        assert watch.status().startswith("2 of 2 cameras live")
        assert watch.addresses() == [f"health: {watch.health.url}"]
    assert list((tmp_path / "hard").rglob("*.jpg")), "hard frames are kept"
    assert manager.heard[0] == "ready"
    assert manager.heard[-1] == "stopping"
    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if thread.name.startswith("pumpseg-")]
    assert Path(model_path).is_file()


def test_the_watchdog_is_not_fed_while_a_camera_hangs(clip, model_path, tmp_path):
    text = f'[model]\nfile = "{model_path}"\n[[camera]]\nname = "left"\nsource = "{clip}"\n'
    manager, stop = Manager(), threading.Event()
    with Watch(parse_config(text, tmp_path / "cameras.toml"), manager) as watch:
        watch.cameras[0].stuck_after = -1.0
        ticks = []
        watch.run(stop, lambda: (ticks.append(1), stop.set()))
    assert ticks
    assert manager.heard == ["ready", "stopping"]
