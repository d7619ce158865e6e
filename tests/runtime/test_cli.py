import json
import os
import re
import signal
import subprocess
import sys

import av
import cv2
import onnxruntime
import pytest

from pumpseg import cli
from pumpseg.cli import main


@pytest.fixture
def run(model_path, tmp_path, monkeypatch, capfd):
    """Runs the command in an empty folder and gives its exit code and what it wrote on stderr."""
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def command(*arguments, model=True):
        options = ["--model", str(model_path)] if model else []
        code = main([str(argument) for argument in arguments] + ["--no-show", *options])
        out, err = capfd.readouterr()
        assert out == ""
        return code, err

    command.folder = folder
    return command


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_error(result, message):
    code, err = result
    assert code == 2
    lines = [line for line in err.splitlines() if not line.startswith("pumpseg-video: provider")]
    assert len(lines) == 1, err
    assert lines[0].startswith("pumpseg-video: error: ")
    assert re.search(message, lines[0]), lines[0]


def test_a_video_becomes_a_video_and_json(run, clip):
    code, err = run(clip, "--save", "out.mp4", "--json", "out.jsonl")
    assert code == 0
    assert re.search(r"^pumpseg-video: 20 frames in .* fps; ms a frame: decode", err, re.MULTILINE)
    assert files(run.folder) == ["out.jsonl", "out.mp4"]
    records = [json.loads(line) for line in (run.folder / "out.jsonl").read_text().splitlines()]
    assert [record["frame"] for record in records] == list(range(20))
    assert records[2]["time"] == 0.08
    assert all(record["instances"] for record in records)
    with av.open(str(run.folder / "out.mp4")) as container:
        assert [frame.pts for frame in container.decode(video=0)] == [
            frame.pts for frame in av.open(str(clip)).decode(video=0)
        ]


def test_an_image_and_a_folder_of_images(run, tmp_path, square_frame):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("a.png", "b.jpg"):
        cv2.imwrite(str(pictures / name), square_frame)
    assert run(pictures / "a.png", "--save", "a.png", "--json", "a.jsonl")[0] == 0
    assert run(pictures, "--save", "marked")[0] == 0
    assert run(f"{pictures}/*.jpg", "--save", "jpegs")[0] == 0
    assert files(run.folder) == ["a.jsonl", "a.png", "jpegs", "marked"]
    assert files(run.folder / "marked") == ["a.png", "b.jpg"]
    assert files(run.folder / "jpegs") == ["b.jpg"]
    assert (cv2.imread("a.png") != square_frame).any()
    assert json.loads((run.folder / "a.jsonl").read_text())["source"] == str(pictures / "a.png")


def test_errors_are_one_line_and_leave_nothing(run, tmp_path, clip, make_clip, make_model):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    (tmp_path / "photo.xyz").write_text("no photo")
    (tmp_path / "other.onnx").write_bytes(make_model(metadata=None).read_bytes())
    outputs = ("--save", "out.mp4", "--json", "out.jsonl")
    for arguments, message in (
        (["missing.mp4"], "no such file or folder: missing.mp4"),
        ([tmp_path / "text.mp4"], "text.mp4 is no video"),
        ([tmp_path / "empty"], "holds no images"),
        ([tmp_path / "*.gif"], "matches nothing"),
        ([tmp_path / "photo.xyz"], "unknown format .xyz"),
        ([clip, "--provider", "warp"], "unknown provider 'warp'"),
    ):
        assert_error(run(*arguments, *outputs), message)
    assert_error(run(clip, *outputs, "--model", tmp_path / "other.onnx", model=False), "not made by pumpseg-export")
    assert_error(run(clip, *outputs, "--model", "none.onnx", model=False), "no model none.onnx")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        assert_error(run(clip, *outputs, "--provider", "cuda"), r"pip install .pumpseg\[gpu\]")
    assert files(run.folder) == []


@pytest.mark.parametrize("faststart", [False, True])
def test_a_truncated_video_leaves_nothing(run, tmp_path, make_clip, faststart):
    path = make_clip(tmp_path / "cut.mp4", frames=60, faststart=faststart)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    message = r"after frame \d+ of 60" if faststart else "cut short"
    assert_error(run(path, "--save", "out.mp4", "--json", "out.jsonl"), message)
    assert files(run.folder) == []


def test_an_existing_output_survives_an_error(run, tmp_path, make_clip):
    path = make_clip(tmp_path / "cut.mp4", frames=60, faststart=True)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    (run.folder / "out.mp4").write_text("yesterday's")
    assert run(path, "--save", "out.mp4")[0] == 2
    assert (run.folder / "out.mp4").read_text() == "yesterday's"


def test_outputs_that_cannot_be_written(run, clip, tmp_path):
    assert_error(run(clip, "--save", "no/folder/out.mp4"), "cannot write no/folder/out.mp4: No such file")
    assert_error(run(clip, "--json", tmp_path), "it is a folder")
    assert_error(run(clip, "--save", clip), "is an input")
    assert_error(run(clip, "--save", "out.avi"), "videos are saved as")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(run, clip, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert_error(run(clip, "--save", tmp_path / "locked" / "out.mp4"), "Permission denied")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--score", "1.5", "0[.][.]1"),
        ("--score", "-1", "0[.][.]1"),
        ("--score", "nan", "0[.][.]1"),
        ("--score", "x", "not a number"),
        ("--threads", "0", "less than 1"),
        ("--threads", "two", "whole number"),
    ],
)
def test_values_out_of_range(run, clip, option, value, message):
    assert_error(run(clip, f"{option}={value}"), f"{option}: .*{message}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_a_playable_file(run, tmp_path, make_clip, monkeypatch, number):
    path = make_clip(tmp_path / "long.mp4", frames=300, audio="aac")

    class Interrupting(cli.Progress):
        def update(self, done):
            if done == 12:
                signal.raise_signal(number)

    monkeypatch.setattr(cli, "Progress", Interrupting)
    before = signal.getsignal(number)
    code, err = run(path, "--save", "out.mp4", "--json", "out.jsonl")
    assert code == 130
    assert "interrupted after 12 frames" in err
    assert signal.getsignal(number) is before
    assert files(run.folder) == ["out.jsonl", "out.mp4"]
    assert len((run.folder / "out.jsonl").read_text().splitlines()) == 12
    with av.open(str(run.folder / "out.mp4")) as container:
        assert len(list(container.decode(video=0))) == 12


def test_without_a_screen_it_goes_on_in_one_line(clip, model_path, monkeypatch, capfd):
    monkeypatch.setattr(cli, "screen_problem", lambda: "there is no screen")
    assert main([str(clip), "--model", str(model_path)]) == 0
    assert capfd.readouterr().err.count("going on without a window: there is no screen\n") == 1


def test_the_command_as_a_process(clip, model_path, tmp_path):
    """What the user's terminal really gets, libraries in C included."""
    command = [sys.executable, "-m", "pumpseg.cli", str(clip), "--no-show", "--model", str(model_path)]
    done = subprocess.run([*command, "--save", str(tmp_path / "out.mp4")], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert all(line.startswith("pumpseg-video: ") for line in done.stderr.splitlines()), done.stderr


def test_version(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out.startswith("pumpseg ")
