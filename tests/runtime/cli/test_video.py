import json
import os
import re
import shlex
import signal
import subprocess
import sys

import av
import cv2
import numpy as np
import onnxruntime
import pytest

from pumpseg.cli import video as cli
from pumpseg.cli.video import main
from pumpseg.video import process


@pytest.fixture
def run(model_path, tmp_path, monkeypatch, capfd):
    """Runs the command in an empty folder and gives its exit code and what it wrote on stderr."""
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def command(*arguments, model=True):
        options = ["--model", str(model_path)] if model else []
        try:
            code = main([str(argument) for argument in arguments] + ["--no-show", *options])
        except SystemExit as stop:  # a wrong option
            code = stop.code
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
    records = [json.loads(line) for line in (run.folder / "out.jsonl").read_text(encoding="utf-8").splitlines()]
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
    assert json.loads((run.folder / "a.jsonl").read_text(encoding="utf-8"))["source"] == str(pictures / "a.png")


def test_errors_are_one_line_and_leave_nothing(run, tmp_path, clip, make_clip, make_model):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    (tmp_path / "photo.xyz").write_text("no photo")
    (tmp_path / "other.onnx").write_bytes(make_model(metadata=None).read_bytes())
    outputs = ("--save", "out.mp4", "--json", "out.jsonl")
    for arguments, message in (
        (["missing.mp4"], "no such file or folder: missing.mp4"),
        ([tmp_path / "text.mp4"], "text.mp4 is no video"),
        ([tmp_path / "empty"], "holds no images and no videos"),
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


def cut(path, share=0.75):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def test_a_video_that_cannot_be_opened_leaves_nothing(run, tmp_path, make_clip):
    path = cut(make_clip(tmp_path / "cut.mp4", frames=60))
    (run.folder / "out.mp4").write_text("yesterday's")
    assert_error(run(path, "--save", "out.mp4", "--json", "out.jsonl"), "cut short")
    assert files(run.folder) == ["out.mp4"]
    assert (run.folder / "out.mp4").read_text(encoding="utf-8") == "yesterday's"


def test_what_came_before_a_cut_is_kept_and_intact(run, tmp_path, make_clip):
    path = cut(make_clip(tmp_path / "cut.mp4", frames=60, faststart=True, audio="aac"))
    code, err = run(path, "--save", "out.mp4", "--json", "out.jsonl")
    assert code == 2
    reached, kept = re.search(
        r"cut short: it ends after frame (\d+) of 60; what came before \((\d+) frames\)", err
    ).groups()
    assert files(run.folder) == ["out.jsonl", "out.mp4"]
    assert 0 < int(kept) == int(reached) < 60
    assert len((run.folder / "out.jsonl").read_text(encoding="utf-8").splitlines()) == int(kept)
    with av.open(str(run.folder / "out.mp4")) as container:
        assert len(list(container.decode(video=0))) == int(kept)


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
        ("--threshold", "1.5", "a number from 0 to 1"),
        ("--threshold", "x", "a number from 0 to 1"),
        ("--threads", "0", "a whole number from 1 to 1024"),
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
    assert len((run.folder / "out.jsonl").read_text(encoding="utf-8").splitlines()) == 12
    with av.open(str(run.folder / "out.mp4")) as container:
        assert len(list(container.decode(video=0))) == 12


def test_without_a_screen_it_goes_on_in_one_line(clip, model_path, monkeypatch, capfd):
    monkeypatch.setattr(cli, "screen_problem", lambda: "there is no screen")
    assert main([str(clip), "--model", str(model_path)]) == 0
    assert (
        capfd.readouterr().err.count("going on without a window: there is no screen; --serve 8000 shows a web page\n")
        == 1
    )


def test_the_command_as_a_process(clip, model_path, tmp_path):
    """What the user's terminal really gets, libraries in C included."""
    command = [sys.executable, "-m", "pumpseg.cli.video", str(clip), "--no-show", "--model", str(model_path)]
    done = subprocess.run([*command, "--save", str(tmp_path / "out.mp4")], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert all(line.startswith("pumpseg-video: ") for line in done.stderr.splitlines()), done.stderr


def test_version(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out.startswith("pumpseg ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.mp4", "--save-dir", "out", "--save", "out.mp4"], "exclude each other"),
        (["--save-dir", "out", "a.mp4", "--json", "b.mp4"], "--json takes no name, not b.mp4"),
        (["a.mp4", "--save-dir", "out", "--limit", "3"], "do not go with --save-dir"),
        (["a.mp4", "--jobs", "2"], "go with --save-dir"),
        (["a.mp4", "--json"], "--json needs a name"),
        (["a.mp4", "--coco-truth", "x.json"], "goes with --coco FILE"),
        (["a.mp4", "--coco", "-"], "--coco cannot go to standard output"),
        (["a.mp4", "b.mp4", "--save", "out.mp4"], "no such file or folder: a.mp4"),
        (["webcam", "b.mp4"], "webcam is no file: only files"),
        (["webcam", "--save-dir", "out"], "webcam is no file: only files"),
        (["a.mp4", "--camera-size", "640"], "must be WIDTHxHEIGHT"),
        (["a.mp4", "--reconnect=-1"], "at least 0"),
        (["a.mp4", "--camera-fps", "0"], "a number above 0"),
        (["a.mp4", "--codec", "mpeg4"], "invalid choice"),
    ],
)
def test_options_that_do_not_go_together(run, arguments, message):
    assert_error(run(*arguments), message)
    assert files(run.folder) == []


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


def test_cutouts_have_a_folder_of_their_own_and_one_run_each(run, square_frame, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    cv2.imwrite(str(pictures / "a.png"), square_frame)
    cv2.imwrite(str(pictures / "a-00.png"), square_frame)
    for arguments in (
        (pictures, "--save-crops", pictures),
        (pictures, "--save", "out/", "--save-crops", "out"),
    ):
        assert_error(run(*arguments), "is the folder of other images: name one of its own for the crops")
    assert files(run.folder) == []
    assert run(pictures / "a.png", "--save-crops", "cut")[0] == 0
    assert files(run.folder / "cut")
    assert_error(run(pictures / "a.png", "--save-crops", "cut"), r"cut holds such crops already \(a-00\.png\)")
    assert run(pictures / "a-00.png", "--save-crops", "cut")[0] == 0, "of another picture"


def test_names_that_are_too_long_are_told(run, clip):
    assert_error(run("a" * 300), "cannot be looked at: File name too long")
    assert_error(run(clip, "--json", "a" * 300), "cannot write a+: File name too long")
    assert_error(run(clip, "--model", "a" * 300, model=False), "cannot be looked at: File name too long")
    longest = "a" * 249 + ".jsonl"
    assert run(clip, "--json", longest, "--limit", "1")[0] == 0
    assert files(run.folder) == [longest]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may look everywhere")
def test_a_folder_that_cannot_be_looked_into_is_told(run, clip, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    for arguments in ((closed,), (closed / "a.jpg",)):
        assert_error(run(*arguments), "cannot be looked at: Permission denied")
    assert_error(run(clip, "--json", closed / "x.jsonl"), "cannot write .*: Permission denied")
    closed.chmod(0o700)


def test_json_on_standard_output_is_utf8_whatever_the_terminal_speaks(model_path, square_frame, tmp_path):
    picture = tmp_path / "K\u00fcrbis-\u5357\u74dc.png"
    picture.write_bytes(cv2.imencode(".png", square_frame)[1].tobytes())
    done = subprocess.run(
        [sys.executable, "-m", "pumpseg.cli.video", picture, "--no-show", "--json", "-", "--model", model_path],
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout.decode("utf-8"))["source"] == str(picture)


def test_an_empty_source_is_not_the_folder_one_is_in(run, square_frame):
    cv2.imwrite("a.png", square_frame)
    assert_error(run(""), "the name of the source is empty")
    assert_error(run("", "a.png"), "the name of a source is empty")


def test_a_name_that_is_not_utf8_is_told(run, square_frame, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(cv2.imencode(".png", square_frame)[1].tobytes())
    assert_error(run(folder, "--save-dir", "out", "--json"), "this name is not UTF-8")
    assert files(run.folder) == []


def test_a_closed_standard_error_does_not_end_the_work(clip, model_path, tmp_path):
    command = [sys.executable, "-m", "pumpseg.cli.video", str(clip), "--no-show", "--model", str(model_path)]
    line = f"exec {shlex.join([*command, '--json', str(tmp_path / 'out.jsonl')])} 2>&-"
    assert subprocess.run(["sh", "-c", line], check=False).returncode == 0
    assert "out.jsonl" in files(tmp_path)
    assert not list(tmp_path.glob(".part-*"))


def test_a_closed_standard_output_is_told(clip, model_path):
    command = [sys.executable, "-m", "pumpseg.cli.video", str(clip), "--no-show", "--model", str(model_path)]
    for option in ("--json", "--save"):
        line = f"exec {shlex.join([*command, option, '-'])} >&-"
        done = subprocess.run(["sh", "-c", line], stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1] == "pumpseg-video: error: standard output is closed"


def test_far_too_many_tiles_or_threads_are_refused(run, clip):
    assert_error(run(clip, "--tiles", "17"), "argument --tiles: must be a whole number from 1 to 16, got 17")
    assert_error(
        run(clip, "--threads", "100000"), "argument --threads: must be a whole number from 1 to 1024, got 100000"
    )


def test_several_videos_need_a_folder(run, clip, tmp_path, make_clip):
    other = make_clip(tmp_path / "other.mp4", frames=2)
    assert_error(run(clip, other, "--save", "out.mp4"), "2 sources stands for 2 videos and 0 images: with --save-dir")


def test_a_damaged_image_in_a_folder_spoils_only_itself(run, tmp_path, square_frame):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("a.png", "c.png"):
        cv2.imwrite(str(pictures / name), square_frame)
    (pictures / "b.png").write_bytes(b"text")
    code, err = run(pictures, "--json", "out.jsonl", "--coco", "out.json", "--save", "marked")
    assert code == 1
    assert "left out: " in err
    assert "1 input left out" in err
    lines = (run.folder / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["source"] for line in lines] == [str(pictures / "a.png"), str(pictures / "c.png")]
    assert {one["image_id"] for one in json.loads((run.folder / "out.json").read_text(encoding="utf-8"))} == {1, 2}
    assert files(run.folder / "marked") == ["a.png", "c.png"]


def test_a_limit_and_statistics(run, clip):
    code, err = run(clip, "--limit", "7", "--stats", "stats.json", "--save", "frames", "--save-crops", "cut")
    assert code == 0
    stats = json.loads((run.folder / "stats.json").read_text(encoding="utf-8"))
    assert (stats["frames"], stats["interrupted"], stats["source"]) == (7, False, str(clip))
    assert list(stats["stages"]) == ["decode", "letterbox", "session", "select", "draw", "write"]
    assert all(0 < times["median"] <= times["longest"] for times in stats["stages"].values())
    assert files(run.folder / "frames") == [f"{i:06}.jpg" for i in range(7)]
    assert len(files(run.folder / "cut")) >= 7
    assert "7 frames in" in err


def test_statistics_that_cannot_be_written_are_told_at_once(run, clip):
    assert_error(run(clip, "--stats", "no/folder/s.json", "--json", "out.jsonl"), "cannot write no/folder/s.json")
    assert files(run.folder) == []


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
def test_a_reader_that_goes_away_is_told_in_one_line(tmp_path, make_clip, model_path, option):
    clip = make_clip(tmp_path / "long.mp4", frames=400, size=(240, 320))
    _, err, code = in_a_pipe(clip, model_path, option, "-", reader=lambda pipe: pipe.read(100))
    assert code == 2
    assert err.splitlines()[-1].startswith("pumpseg-video: error: cannot write ")
    assert err.splitlines()[-1].endswith("standard output: Broken pipe")
    assert "Traceback" not in err
    assert "Exception" not in err


def test_a_gpu_gets_two_frames_at_a_time():
    assert {name: cli._most_workers(name) for name in ("cpu", "openvino", "cuda")} == {
        "cpu": cli.MAX_WORKERS,
        "openvino": cli.MAX_WORKERS,
        "cuda": 2,
    }


def test_a_file_is_inferred_by_as_many_workers_as_its_provider_is_good_for(run, clip, monkeypatch):
    given = []

    def noted(*arguments, workers, **options):
        given.append(workers)
        return process(*arguments, workers=workers, **options)

    monkeypatch.setattr(cli, "process", noted)
    for most in (8, 2):
        monkeypatch.setattr(cli, "_most_workers", lambda provider, most=most: most)
        assert run(clip, "--json", f"{most}.jsonl", "--threads", "4")[0] == 0
    assert given == [4, 2]
