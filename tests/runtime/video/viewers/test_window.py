import subprocess
import sys

import pytest

from pumpseg.video.viewers import window as display
from pumpseg.video.viewers.window import screen_problem


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems always have a display server")
def test_no_screen_is_reported_without_trying(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(display.subprocess, "run", lambda *a, **k: pytest.fail("tried to open a window"))
    assert "there is no screen" in screen_problem()


def test_a_screen_that_cannot_be_reached_does_not_end_the_process(monkeypatch, capfd):
    monkeypatch.setenv("DISPLAY", "127.0.0.1:97")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert screen_problem() == "OpenCV cannot open a window here"
    assert capfd.readouterr() == ("", "")


def test_a_screen_that_hangs(monkeypatch):
    def hang(command, timeout, **options):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(display.subprocess, "run", hang)
    assert screen_problem() == "the screen did not answer within 15 s"
