"""The command as it is: a rule fires, and the event arrives everywhere."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from mqtt_broker import Broker, Listener, needs_mosquitto
from server_program import Server
from stamped_pictures import made_at
from webhook_receiver import Receiver

from pumpseg.watch.event import Event

CAMERAS = Path(__file__).parents[1] / "video" / "cameras"

CONFIG = """
[model]
file = "{model}"
[[camera]]
name = "yard"
source = "rtsp://127.0.0.1:{camera}/camera"
fps = 5.0
[[camera.zone]]
name = "all"
polygon = [[0.0, 0.35], [1.0, 0.35], [1.0, 1.0], [0.0, 1.0]]
[[rule]]
name = "crowd"
when = "count(all) >= 1 for 0.5 s"
cooldown = 600.0
[sinks.blur]
kind = "all"
[sinks.jsonl]
path = "events.jsonl"
[sinks.webhook]
url = "http://127.0.0.1:{hook}/hook"
secret = "${{HOOK_SECRET}}"
snapshot = "blurred"
[sinks.mqtt]
host = "127.0.0.1"
port = {broker}
[sinks.snapshots]
folder = "snapshots"
[sinks.clips]
folder = "clips"
before = 0.5
after = 0.5
"""


@pytest.fixture
def camera():
    server = Server(sys.executable, CAMERAS / "rtsp_camera.py", "PORT", "12")
    yield server
    server.stop()


@pytest.fixture
def broker(tmp_path):
    (tmp_path / "broker").mkdir()
    started = Broker(tmp_path / "broker")
    yield started
    started.stop()


@pytest.fixture
def receiver():
    started = Receiver()
    yield started
    started.close()


def until(condition, seconds=180):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def picture(jpeg):
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


@needs_mosquitto
def test_an_event_arrives_everywhere_with_its_picture_and_its_clip(
    camera, broker, receiver, model_path, tmp_path, monkeypatch
):
    receiver.answers = [503]
    listener = Listener(broker.port)
    config = tmp_path / "cameras.toml"
    config.write_text(
        CONFIG.format(model=model_path, camera=camera.port, hook=receiver.port, broker=broker.port), encoding="utf-8"
    )
    monkeypatch.setenv("HOOK_SECRET", "whsec_c2VjcmV0IG9mIHRoaXMgdGVzdA==")
    command = [sys.executable, "-m", "pumpseg.cli.watch", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            until(lambda: receiver.acknowledged and listener.payloads("pumpseg/yard/event/crowd"))
            until(lambda: list((tmp_path / "clips").glob("*.json")))
        finally:
            process.send_signal(signal.SIGTERM)
            log = process.communicate(timeout=60)[1]
    assert process.returncode == 0, log
    assert "whsec" not in log and "c2VjcmV0" not in log

    (line,) = (tmp_path / "events.jsonl").read_text(encoding="utf-8").splitlines()
    event = Event.from_json(line)
    assert (event.camera, event.rule, event.values["count"] >= 1) == ("yard", "crowd", True)
    published = json.loads(listener.payloads("pumpseg/yard/event/crowd")[0])
    assert published == {"event_type": "crowd", **json.loads(line)}
    assert receiver.ids == [event.id] * 2
    headers, body, _ = receiver.requests[1]
    assert headers["webhook-signature"].startswith("v1,")
    posted = Event.from_json(body)
    assert (posted.id, posted.values, posted.time) == (event.id, event.values, event.time)

    # The annotated frame on the machine, a blurred one to the webhook.
    (snapshot,) = (tmp_path / "snapshots").glob(f"*-yard-crowd-{event.id}.jpg")
    full, blurred = picture(snapshot.read_bytes()), picture(posted.snapshot)
    assert (listener.payloads("pumpseg/yard/snapshot")[0] == snapshot.read_bytes()) and full.shape == (240, 320, 3)
    assert cv2.Laplacian(full[:16], cv2.CV_64F).std() > 3 * cv2.Laplacian(blurred[:16], cv2.CV_64F).std()

    # The clip begins before the event and holds its frame: the moment at which it was made is in the picture.
    (clip,) = (tmp_path / "clips").glob(f"*-yard-crowd-{event.id}.mp4")
    with av.open(str(clip)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        moments = [made_at(frame.to_ndarray(format="bgr24")) for frame in container.decode(video=0)]
    made = made_at(full)
    assert moments[0] <= made - 0.4
    assert min(abs(moment - made) for moment in moments) < 0.002
    assert moments[-1] > made

    entity = json.loads(listener.payloads("homeassistant/device/pumpseg_yard/config")[0])["components"]["event_crowd"]
    assert entity["state_topic"] == "pumpseg/yard/event/crowd"
    until(lambda: listener.payloads("pumpseg/availability")[-1:] == [b"offline"])
    listener.close()
