"""The watch against real servers on loopback: cameras that die, flood, hang and send garbage; kill -9; new models."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from page_client import fetch
from server_program import Server

from pumpseg.watch import cameras as cameras_module
from pumpseg.watch.config import parse_config
from pumpseg.watch.run import Watch

SCRIPTS = Path(__file__).parents[1] / "video" / "cameras"


@pytest.fixture
def serve():
    started = []

    def start(script, *arguments):
        started.append(Server(sys.executable, SCRIPTS / script, "PORT", *arguments))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.stop()


def until(condition, seconds=40):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Running:
    """A watch that runs in a thread."""

    def __init__(self, text, folder):
        self.watch = Watch(parse_config(text, folder / "cameras.toml", {}))
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.watch.run, args=(self.stop,))
        self.thread.start()

    def figures(self, name):
        return next(camera.meter.figures() for camera in self.watch.cameras if camera.name == name)

    def close(self):
        self.stop.set()
        self.thread.join(20)
        self.watch.close()


@pytest.fixture
def run(tmp_path):
    running = []

    def start(text):
        running.append(Running(text, tmp_path))
        return running[-1]

    yield start
    for one in running:
        one.close()


def camera(name, url, more=""):
    return f'[[camera]]\nname = "{name}"\nsource = "{url}"\n{more}'


def test_a_camera_that_dies_floods_or_sends_garbage_holds_up_no_other(serve, run, model_path, tmp_path, monkeypatch):
    monkeypatch.setattr(cameras_module, "FIRST_DELAY", 0.1)
    good, dying = serve("rtsp_camera.py", 10), serve("rtsp_camera.py", 10)
    flood, garbage = serve("bad_camera.py", "flood"), serve("bad_camera.py", "garbage")
    text = f'[model]\nfile = "{model_path}"\nthreads = 1\n[sinks.jsonl]\npath = "events.jsonl"\n'
    text += camera("good", f"rtsp://127.0.0.1:{good.port}/camera")
    text += camera("dying", f"rtsp://127.0.0.1:{dying.port}/camera")
    text += camera("flood", f"http://127.0.0.1:{flood.port}/camera")
    text += camera("garbage", f"http://127.0.0.1:{garbage.port}/camera")
    text += '[[rule]]\nname = "gone"\nwhen = "camera lost"\n[[rule]]\nname = "back"\nwhen = "camera back"\n'
    watch = run(text)
    until(lambda: min(watch.figures(name).frames for name in ("good", "dying", "flood")) > 5)
    dying.stop()
    until(lambda: watch.figures("dying").state == "lost")
    before, start = watch.figures("good").frames, time.monotonic()
    time.sleep(2)
    rate = (watch.figures("good").frames - before) / (time.monotonic() - start)
    assert rate > 8, "10 frames a second arrive, all of which the model can do"
    assert watch.figures("good").latency[0.5] < 0.5
    assert watch.figures("flood").dropped > 0
    assert (watch.figures("garbage").state, watch.figures("garbage").frames) == ("lost", 0)
    dying.start()
    until(lambda: watch.figures("dying").state == "live")
    assert watch.figures("dying").reconnects == 1
    until(
        lambda: any('"back"' in line for line in (tmp_path / "events.jsonl").read_text(encoding="utf-8").splitlines())
    )
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    seen = [(event["camera"], event["rule"]) for event in events]
    assert sorted(set(seen)) == [("dying", "back"), ("dying", "gone"), ("garbage", "gone")]


def test_a_model_is_swapped_under_load_without_a_lost_frame(
    serve, run, model_path, blind_model_path, tmp_path, caplog, monkeypatch
):
    servers = serve("rtsp_camera.py", 5), serve("mjpeg_camera.py", 5)
    path = tmp_path / "mine.onnx"
    shutil.copy(model_path, path)
    text = f'[model]\nfile = "{path}"\nthreads = 1\n[page]\naddress = "127.0.0.1:0"\n'
    text += camera("rtsp", f"rtsp://127.0.0.1:{servers[0].port}/camera")
    text += camera("mjpeg", f"http://127.0.0.1:{servers[1].port}/camera")
    caplog.set_level("INFO", "pumpseg")
    watch = run(text)
    seen = {"rtsp": [], "mjpeg": []}
    show = watch.watch.page.show

    def note(name, result):
        seen[name].append((result.index, len(result.instances), result.dropped))
        show(name, result)

    monkeypatch.setattr(watch.watch.page, "show", note)
    until(lambda: min(len(one) for one in seen.values()) > 8)
    path.with_suffix(".new").write_bytes(b"half a model")
    path.with_suffix(".new").replace(path)
    until(lambda: watch.watch.model.refused == 1)
    shutil.copy(blind_model_path, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)
    until(lambda: watch.watch.model.swaps == 1)
    until(lambda: all(one[-1][1] == 0 for one in seen.values()))
    time.sleep(0.6)
    assert "is not taken, the one before stays" in caplog.text
    assert "sees frames, after a gap of" in caplog.text
    for frames in seen.values():
        assert [index for index, _, _ in frames] == list(range(frames[0][0], frames[0][0] + len(frames)))
        counts = [count > 0 for _, count, _ in frames]
        first = counts.index(False)
        assert all(counts[:first]), "no frame before the swap was segmented by anything but the old model"
        assert not any(counts[first:]), "and none after it"
        swap = range(max(0, first - 3), first + 3)
        assert frames[swap[-1]][2] == frames[swap[0]][2], "no frame was dropped around the swap"


WATCHED = """
[model]
file = "{model}"
threads = 1
[health]
address = "127.0.0.1:{port}"
[sinks.jsonl]
path = "events.jsonl"
[[camera]]
name = "gate"
source = "rtsp://127.0.0.1:{camera}/camera"
[[camera.zone]]
name = "all"
polygon = [[0, 0], [1, 0], [1, 1], [0, 1]]
[[rule]]
name = "seen"
when = "count(all) >= 1"
cooldown = 3600.0
[[rule]]
name = "entered"
when = "entered(all)"
cooldown = 0.5
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
def test_kill_9_keeps_what_was_counted_and_doubles_no_event(serve, model_path, tmp_path):
    server, port = serve("rtsp_camera.py", 10), free_port()
    config = tmp_path / "cameras.toml"
    config.write_text(WATCHED.format(model=model_path, camera=server.port, port=port), encoding="utf-8")
    events = tmp_path / "events.jsonl"

    def start():
        command = [sys.executable, "-m", "pumpseg.cli.watch", str(config)]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        started.append(process)
        return process

    def rules():
        lines = events.read_text(encoding="utf-8").splitlines() if events.exists() else []
        return [json.loads(line)["rule"] for line in lines if line.endswith("}")]

    def state():
        return json.loads((tmp_path / "pumpseg-state" / "camera-gate.json").read_bytes())

    started = []
    try:
        process = start()
        until(lambda: "seen" in rules() and rules().count("entered") >= 2, 60)
        process.send_signal(signal.SIGKILL)
        process.wait()
        before, kept = rules(), state()
        assert kept["events"]["entered"] >= before.count("entered")
        assert kept["zones"]["zones"]["all"]["entered"]
        process = start()
        until(lambda: rules().count("entered") > before.count("entered"), 60)
        assert json.loads(fetch(f"http://127.0.0.1:{port}/healthz")[1])["cameras"]["gate"]["state"] == "live"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert rules().count("seen") == 1, "its cool-down survived"
    lines = events.read_text(encoding="utf-8").splitlines()
    assert len({json.loads(line)["id"] for line in lines}) == len(lines)
    totals = state()["zones"]["zones"]["all"]["entered"]["pumpkin"]
    assert totals >= kept["zones"]["zones"]["all"]["entered"]["pumpkin"]
    assert state()["track_ids"] > kept["track_ids"]
