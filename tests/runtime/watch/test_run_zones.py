"""The watch counts in zones and decides rules on a scene of known truth, served by a camera on loopback."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from pumpseg import Instances, Segmenter, Timings
from pumpseg.watch import run as run_module
from pumpseg.watch.config import parse_config
from pumpseg.watch.run import Watch

SIZE, DISC, FPS = (240, 320), 60, 20
LOST_AT, AWAY = 5.5, 2.5
# Seconds, x and y of the centre of each disc. The first goes down over the line into the zone, and back; the second
# appears in the zone and stays.
PATHS = [[(0, 220, 50), (0.7, 220, 50), (2.0, 220, 180), (3.6, 220, 180), (4.9, 220, 50), (99, 220, 50)]]
PATHS += [[(2.4, 70, 180), (99, 70, 180)]]
CONFIG = """
[model]
file = "{model}"
[sinks.jsonl]
path = "events.jsonl"
[[camera]]
name = "yard"
source = "http://127.0.0.1:{port}/"
[[camera.zone]]
name = "low"
polygon = [[0.0, 0.5], [1.0, 0.5], [1.0, 1.0], [0.0, 1.0]]
[[camera.line]]
name = "middle"
points = [[0.0, 0.42], [1.0, 0.42]]
"""
RULES = {
    "went-in": "crossed(middle) in",
    "went-out": "crossed(middle) out",
    "came": "entered(low)",
    "went": "left(low)",
    "pair": "count(low) of pumpkin >= 2 for 0.5 s",
    "full": "occupancy(low) > 10%",
    "stayed": "dwell(low) > 1.2 s",
    "new": "new object",
    "lost": "camera lost",
    "back": "camera back",
}


def picture(seconds):
    image = np.zeros((*SIZE, 3), np.uint8)
    for path in PATHS:
        times, xs, ys = zip(*path, strict=True)
        if seconds >= times[0]:
            centre = round(np.interp(seconds, times, xs)), round(np.interp(seconds, times, ys))
            cv2.circle(image, centre, DISC // 2, (255, 255, 255), cv2.FILLED)
    return image


class Exact(Segmenter):
    """Finds the bright pieces of a frame, to the pixel."""

    def timed(self, frame):
        count, _, stats, _ = cv2.connectedComponentsWithStats((frame[..., 1] > 127).astype(np.uint8))
        boxes = [(x, y, x + w, y + h) for x, y, w, h, area in stats[1:count] if area > 100]
        masks = [cv2.resize((frame[y1:y2, x1:x2, 1] > 127).astype(np.float32), (28, 28)) for x1, y1, x2, y2 in boxes]
        instances = Instances.in_frame(
            np.array(boxes, np.float32).reshape(-1, 4),
            np.full(len(boxes), 0.9, np.float32),
            np.zeros(len(boxes), np.int64),
            np.array(masks, np.float32).reshape(-1, 28, 28),
            (frame.shape[0], frame.shape[1]),
            self.class_names,
        )
        return instances, Timings()


@pytest.fixture
def camera_port():
    """A camera whose scene begins when the first client comes; it is away for a while at LOST_AT."""
    begun, over = [], threading.Event()

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self):
            begun.append(time.monotonic())
            if LOST_AT < time.monotonic() - begun[0] < LOST_AT + AWAY:
                self.send_error(503)
                return
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            while not over.wait(1 / FPS):
                seconds = time.monotonic() - begun[0]
                if LOST_AT < seconds < LOST_AT + AWAY:
                    return
                jpeg = cv2.imencode(".jpg", picture(seconds))[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                try:
                    self.wfile.write(head.encode() + jpeg + b"\r\n")
                except OSError:
                    return

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    over.set()
    server.shutdown()
    server.server_close()


def test_zones_lines_and_rules_say_what_happened(camera_port, model_path, tmp_path, monkeypatch):
    monkeypatch.setattr(
        run_module, "open_segmenter", lambda config, threads: Exact(model_path, provider="cpu", threads=1)
    )
    text = CONFIG.format(model=model_path, port=camera_port)
    text += "".join(f'[[rule]]\nname = "{name}"\nwhen = "{when}"\ncooldown = 0.0\n' for name, when in RULES.items())
    events_path, stop = tmp_path / "events.jsonl", threading.Event()

    def events():
        lines = events_path.read_text(encoding="utf-8").splitlines(keepends=True) if events_path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def wait_for_the_end():
        end = time.monotonic() + 60
        while not any(event["rule"] == "back" for event in events()) and time.monotonic() < end:
            time.sleep(0.1)
        time.sleep(1.0)
        stop.set()

    with Watch(parse_config(text, tmp_path / "cameras.toml", {})) as watch:
        waiting = threading.Thread(target=wait_for_the_end)
        waiting.start()
        watch.run(stop)
        waiting.join()
    found = events()
    rules = [event["rule"] for event in found]
    assert [rules.count(name) for name in ("went-in", "went-out", "came", "pair", "lost", "back")] == [1, 1, 2, 1, 1, 1]
    by_rule = {event["rule"]: event for event in found}
    first, second = by_rule["went-in"]["track_ids"][0], by_rule["pair"]["track_ids"][-1]
    assert first != second
    assert by_rule["went-out"]["track_ids"] == by_rule["went"]["track_ids"] == [first]
    assert rules.index("went-in") < rules.index("pair") < rules.index("went-out") < rules.index("lost")
    until_lost = found[: rules.index("lost")]
    assert [event["track_ids"] for event in until_lost if event["rule"] == "new"] == [[first], [second]]
    assert [event["track_ids"] for event in until_lost if event["rule"] == "stayed"] == [[first], [second]]
    disc = np.pi * DISC**2 / 4 / (SIZE[0] / 2 * SIZE[1])
    assert by_rule["full"]["values"]["occupancy"] > 0.1 > disc
    assert by_rule["pair"]["values"] == {"zone": "low", "count": 2}
    state = json.loads((tmp_path / "pumpseg-state" / "camera-yard.json").read_bytes())["zones"]
    # The second was there before and after the loss: it has not entered again.
    assert state["zones"]["low"]["entered"] == {"pumpkin": 2}
    assert state["zones"]["low"]["left"] == {"pumpkin": 1}
    assert state["zones"]["low"]["max_occupancy"] == pytest.approx(2 * disc, rel=0.05)
    assert state["lines"]["middle"] == {"in": {"pumpkin": 1}, "out": {"pumpkin": 1}}
