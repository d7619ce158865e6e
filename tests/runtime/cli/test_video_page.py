"""`pumpseg-video --serve`."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
from page_client import next_frame
from websockets.sync.client import connect

from pumpseg.cli import video
from pumpseg.cli.progress import Progress
from pumpseg.cli.video import main
from pumpseg.video.viewers.live_page import LivePage


def command(clip, model_path, *arguments):
    line = [sys.executable, "-m", "pumpseg.cli.video", str(clip), "--model", str(model_path), *map(str, arguments)]
    return subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
@pytest.mark.parametrize("watched", [True, False])
def test_the_command_ends_well_at_ctrl_c(tmp_path, make_clip, model_path, watched):
    run = command(make_clip(tmp_path / "long.mp4", frames=500), model_path, "--serve", 0)
    url = next(line for line in run.stderr if "live page: " in line).split()[-1]
    time.sleep(0.3)
    if watched:
        with connect(f"ws://{url.split('/')[2]}/live") as viewer:
            first = next_frame(viewer)[0]["frame"]
            assert next_frame(viewer)[0]["frame"] > first
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=20)
    assert (run.returncode, out) == (130, "")
    assert re.search(rf"interrupted after {'[1-9]' if watched else '0 frames'}", err)
    assert "Traceback" not in err


def test_a_clip_that_is_saved_does_not_wait_for_a_viewer(clip, model_path, tmp_path, capfd):
    out = tmp_path / "out.jsonl"
    assert main([str(clip), "--model", str(model_path), "--json", str(out), "--serve", "0.0.0.0:0"]) == 0
    assert len(out.read_text(encoding="utf-8").splitlines()) == 20
    assert re.search(r"live page: http://\S+:\d+/\?token=\S{20,}\n", capfd.readouterr().err)


def test_the_wait_for_a_viewer_does_not_count_as_progress(clip, model_path, monkeypatch):
    order = []

    class NotedProgress(Progress):
        def __init__(self, total):
            order.append("progress")
            super().__init__(total)

    monkeypatch.setattr(video, "Progress", NotedProgress)
    monkeypatch.setattr(LivePage, "wait_for_browser", lambda page: order.append("waited"))
    assert main([str(clip), "--model", str(model_path), "--serve", "0", "--limit", "2"]) == 0
    assert order == ["waited", "progress"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--serve", "x"], "must be [HOST:]PORT"),
        (["--serve", "8000", "--save-dir", "out"], "does not go with --save-dir"),
        (["--serve-token", "abc"], "--serve-token goes with --serve"),
        (["--serve", "8000", "--serve-token", ""], "must not be empty"),
    ],
)
def test_options_that_do_not_go_together(clip, capfd, arguments, message):
    try:
        assert main([str(clip), *arguments]) == 2
    except SystemExit as stop:  # a wrong option
        assert stop.code == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert message in err


def test_a_port_in_use_and_a_missing_extra_are_one_line(clip, model_path, tmp_path, capfd, monkeypatch):
    options = [str(clip), "--model", str(model_path), "--provider", "cpu", "--save", str(tmp_path / "out.mp4")]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main([*options, "--serve", str(taken.getsockname()[1])]) == 2
    assert re.fullmatch(r"pumpseg-video: error: cannot serve .*: Address already in use\n", capfd.readouterr().err)
    monkeypatch.setitem(sys.modules, "websockets", None)
    assert main([*options, "--serve", "0"]) == 2
    missing = r"pumpseg-video: error: websockets cannot be imported .*pumpseg\[serve\]\"\n"
    assert re.fullmatch(missing, capfd.readouterr().err)
    assert list(tmp_path.iterdir()) == []
