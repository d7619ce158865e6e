"""`pumpseg-video --save-dir`."""

import json
import os
import signal
import subprocess
import sys
import time

import cv2
import pytest

from pumpseg.batch.manifest import MANIFEST


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.skipif(os.name != "posix", reason="kills as POSIX does")
def test_killed_in_the_middle_and_run_again_gives_identical_outputs(tmp_path, make_clip, model_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    for name, frames in (("a.mp4", 10), ("b.mp4", 700), ("c.mp4", 10)):
        make_clip(clips / name, frames=frames, audio="aac")

    def command(out):
        line = [sys.executable, "-m", "pumpseg.cli.video", f"{clips}/*.mp4", "--save-dir", str(out)]
        return [*line, "--json", "--coco", "--model", str(model_path), "--threads", "1"]

    out = tmp_path / "killed"
    run = subprocess.Popen(command(out), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not [path for path in out.glob(".part-*-b.mp4") if path.stat().st_size]:
        assert run.poll() is None, run.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert run.returncode == -signal.SIGKILL
    assert len((out / MANIFEST).read_text(encoding="utf-8").splitlines()) == 1
    assert not (out / "b.mp4").exists()

    again = subprocess.run(command(out), capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "3 inputs: 2 done, 1 skipped" in again.stderr
    undisturbed = subprocess.run(command(tmp_path / "undisturbed"), capture_output=True, text=True)
    assert undisturbed.returncode == 0, undisturbed.stderr
    assert contents(out) == contents(tmp_path / "undisturbed")
    assert len(contents(out)) == 10


def test_a_table_and_the_exit_code_show_what_failed(tmp_path, make_clip, square_frame, model_path):
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    make_clip(inputs / "a.mp4", frames=12)
    cv2.imwrite(str(inputs / "a.png"), square_frame)
    (inputs / "b.avi").write_bytes(b"no video")
    arguments = ["--model", model_path, "--save-dir", tmp_path / "out", "--jobs", 2, "--no-annotate", "--json"]
    line = [sys.executable, "-m", "pumpseg.cli.video", "--no-show"]
    files = [inputs / "a.mp4", inputs / "a.png", inputs / "b.avi"]
    done = subprocess.run(
        [*line, *map(str, [*files, *arguments, "--stats", tmp_path / "s.json"])], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "3 inputs: 2 done, 1 failed" in done.stderr
    assert set(contents(tmp_path / "out")) == {"a.mp4.jsonl", "a.png.jsonl", MANIFEST}
    stats = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))["inputs"]
    assert [one["status"] for one in stats] == ["done", "done", "failed"]
    assert stats[0]["frames"] == 12
    assert "cannot be read as a video" in stats[2]["error"]
