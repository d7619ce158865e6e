"""Where the results of `pumpseg-video` may go, and what is refused."""

import json
import os
import re
import shlex
import subprocess
import sys

import av
import cv2
import numpy as np
import pytest
from command_output import assert_error, files


def test_outputs_that_cannot_be_written(run, clip, tmp_path):
    assert_error(run(clip, "--save", "no/folder/out.mp4"), "cannot write no/folder/out.mp4: No such file")
    assert_error(run(clip, "--json", tmp_path), "it is a folder")
    assert_error(run(clip, "--save", clip), "is an input")
    assert_error(run(clip, "--save", "out.avi"), "videos are saved as")


def test_a_format_that_is_not_written_is_refused_before_the_model_is_opened(run, clip, square_frame, tmp_path):
    cv2.imwrite(str(tmp_path / "photo.png"), square_frame)
    cv2.imwrite(str(tmp_path / "other.png"), square_frame)
    for sources, name, message in (
        ([clip], "out.gif", r"cannot write out\.gif: videos are saved as \.mp4, \.m4v, \.mov, \.mkv"),
        ([tmp_path / "photo.png"], "out.mp4", r"\.mp4 is not an image format that OpenCV writes; try \.png, \.jpg"),
        ([tmp_path / "photo.png", tmp_path / "other.png"], "out.png", "cannot save 2 images as out.png: name a folder"),
    ):
        assert_error(run(*sources, "--save", name, "--model", "missing.onnx", model=False), message)
    assert files(run.folder) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(run, clip, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert_error(run(clip, "--save", tmp_path / "locked" / "out.mp4"), "Permission denied")


def test_no_output_takes_the_place_of_what_is_read_or_of_another(run, clip, model_path, tmp_path):
    names = tmp_path / "clips.txt"
    names.write_text(f"{clip}\n", encoding="utf-8")
    truth = tmp_path / "truth.json"
    truth.write_text('{"images": [], "categories": []}', encoding="utf-8")
    kept = {path: path.read_bytes() for path in (clip, names, truth, model_path)}
    for arguments, what in (
        ((clip, "--stats", clip), clip),
        ((clip, "--save-dir", "out", "--stats", clip), clip),
        ((clip, "--json", model_path), model_path),
        ((clip, "--coco", truth, "--coco-truth", truth), truth),
        ((names, "--json", names), names),
        ((names, "--save-dir", "out", "--stats", names), names),
    ):
        assert_error(run(*arguments), f"{re.escape(str(what))} is an input")
    assert_error(run(clip, "--json", "a.json", "--stats", "a.json"), "two outputs would be written to a.json")
    assert_error(run(clip, "--stats", "-"), "--stats cannot go to standard output")
    assert {path: path.read_bytes() for path in kept} == kept
    assert files(run.folder) == []


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links")
def test_a_link_is_written_through(run, clip, tmp_path):
    target = tmp_path / "kept" / "real.txt"
    target.parent.mkdir()
    target.write_text("old", encoding="utf-8")
    link = run.folder / "link.jsonl"
    link.symlink_to(target)
    assert run(clip, "--json", "link.jsonl", "--limit", "2")[0] == 0
    assert link.is_symlink()
    assert len(target.read_text(encoding="utf-8").splitlines()) == 2
    assert files(target.parent) == ["real.txt"]


def test_crops_have_a_folder_of_their_own_and_one_run_each(run, square_frame, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    cv2.imwrite(str(pictures / "a.png"), square_frame)
    cv2.imwrite(str(pictures / "a-00.png"), square_frame)
    for arguments in (
        (pictures, "--save-crops", pictures),
        (pictures, "--save", "out/", "--save-crops", "out"),
    ):
        assert_error(run(*arguments), "is the folder of other images: name a separate folder for the crops")
    assert files(run.folder) == []
    assert run(pictures / "a.png", "--save-crops", "cut")[0] == 0
    assert files(run.folder / "cut")
    assert_error(run(pictures / "a.png", "--save-crops", "cut"), r"cut already has such crops \(a-00\.png\)")
    assert run(pictures / "a-00.png", "--save-crops", "cut")[0] == 0, "of another picture"


def test_names_that_are_too_long(run, clip):
    assert_error(run("a" * 300), "cannot be accessed: File name too long")
    assert_error(run(clip, "--json", "a" * 300), "cannot write a+: File name too long")
    assert_error(run(clip, "--model", "a" * 300, model=False), "cannot be read: File name too long")
    longest = "a" * 249 + ".jsonl"
    assert run(clip, "--json", longest, "--limit", "1")[0] == 0
    assert files(run.folder) == [longest]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may look everywhere")
def test_a_folder_that_cannot_be_accessed(run, clip, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    for arguments in ((closed,), (closed / "a.jpg",)):
        assert_error(run(*arguments), "cannot be accessed: Permission denied")
    assert_error(run(clip, "--json", closed / "x.jsonl"), "cannot write .*: Permission denied")
    closed.chmod(0o700)


def test_a_name_that_is_not_utf8_is_refused(run, square_frame, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(cv2.imencode(".png", square_frame)[1].tobytes())
    assert_error(run(folder, "--json", "out.jsonl"), "the name is not UTF-8")
    assert files(run.folder) == []
    code, err = run(folder, "--save-dir", "out", "--json")
    assert code == 1
    assert "the name is not UTF-8: rename the file" in err
    assert files(run.folder / "out") == []


def test_json_on_standard_output_is_utf8_whatever_the_terminal_uses(model_path, square_frame, tmp_path):
    picture = tmp_path / "K\u00fcrbis-\u5357\u74dc.png"
    picture.write_bytes(cv2.imencode(".png", square_frame)[1].tobytes())
    done = subprocess.run(
        [sys.executable, "-m", "pumpseg.cli.video", picture, "--no-show", "--json", "-", "--model", model_path],
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout.decode("utf-8"))["source"] == str(picture)


def test_a_closed_standard_error_does_not_end_the_work(clip, model_path, tmp_path):
    command = [sys.executable, "-m", "pumpseg.cli.video", str(clip), "--no-show", "--model", str(model_path)]
    line = f"exec {shlex.join([*command, '--json', str(tmp_path / 'out.jsonl')])} 2>&-"
    assert subprocess.run(["sh", "-c", line], check=False).returncode == 0
    assert "out.jsonl" in files(tmp_path)
    assert not list(tmp_path.glob(".part-*"))


def test_a_closed_standard_output_is_an_error(clip, model_path):
    command = [sys.executable, "-m", "pumpseg.cli.video", str(clip), "--no-show", "--model", str(model_path)]
    for option in ("--json", "--save"):
        line = f"exec {shlex.join([*command, option, '-'])} >&-"
        done = subprocess.run(["sh", "-c", line], stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1] == "pumpseg-video: error: standard output is closed"


def in_a_pipe(clip, model_path, *options, reader):
    command = [sys.executable, "-m", "pumpseg.cli.video", str(clip), "--no-show", "--model", str(model_path), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        data = reader(process.stdout)
        process.stdout.close()
        return data, process.stderr.read().decode(), process.wait()


def test_raw_frames_go_down_a_pipe(clip, model_path):
    data, err, code = in_a_pipe(clip, model_path, "--save", "-", reader=lambda pipe: pipe.read())
    assert code == 0, err
    assert "raw frames: -f rawvideo -pixel_format bgr24 -video_size 96x64 -framerate 25\n" in err
    frames = np.frombuffer(data, np.uint8).reshape(-1, 64, 96, 3)
    assert len(frames) == 20
    with av.open(str(clip)) as container:
        first = next(container.decode(video=0)).to_ndarray(format="bgr24")
    # Marked, and black where there is nothing.
    assert (frames[0] != first).any()
    assert abs(frames[0][56:, 70:].astype(int) - first[56:, 70:]).max() <= 2


@pytest.mark.parametrize("option", ["--save", "--json"])
def test_a_reader_that_goes_away_ends_it_in_one_line(tmp_path, make_clip, model_path, option):
    clip = make_clip(tmp_path / "long.mp4", frames=400, size=(240, 320))
    _, err, code = in_a_pipe(clip, model_path, option, "-", reader=lambda pipe: pipe.read(100))
    assert code == 1
    assert err.splitlines()[-1].startswith("pumpseg-video: error: cannot write ")
    assert err.splitlines()[-1].endswith("standard output: Broken pipe")
    assert "Traceback" not in err
    assert "Exception" not in err
