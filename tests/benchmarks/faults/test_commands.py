"""How the fault run judges a command."""

import sys

import pytest


@pytest.fixture(scope="module")
def commands(load_script):
    return load_script("commands")


def test_what_a_user_must_not_see_is_a_problem(commands):
    fine = commands.Ended(2, 1.0, "pumpseg-video: error: no such file: x\n")
    assert fine.problems({0, 2}) == []
    assert fine.problems({0, 1}) == ["exit code 2 (pumpseg-video: error: no such file: x)"]
    assert commands.Ended(2, 1.0, "").problems({2}) == ["0 lines of error instead of one"]
    assert commands.Ended(1, 1.0, "Traceback (most recent call last):\n  x").problems({1}) == ["a traceback"]
    assert commands.Ended(-9, 60.0, "", hung=True).problems({0}) == ["still running after 60 s"]


def test_a_command_that_hangs_is_ended(commands, tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "MAX_SECONDS", 0.5)
    (tmp_path / "case").mkdir()
    ended = commands.run([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "case")
    assert ended.hung
    assert ended.seconds < 30


def test_partial_files_are_found_wherever_they_are(commands, tmp_path):
    (tmp_path / "a" / ".part-3-b").mkdir(parents=True)
    (tmp_path / ".live-4-c.mp4").touch()
    (tmp_path / ".hidden").touch()
    assert commands.left_hidden(tmp_path) == [".live-4-c.mp4", "a/.part-3-b"]
