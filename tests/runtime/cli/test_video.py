"""`pumpseg-video` on one source; test_video_batch.py, test_video_page.py, test_video_outputs.py have the rest."""

import json
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import av
import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from command_output import assert_error, files

import pumpseg
from pumpseg import Segmenter, draw
from pumpseg.cli import video as cli
from pumpseg.cli.video import main
from pumpseg.inference.threads import ThreadPlan
from pumpseg.video import process


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
        ([tmp_path / "text.mp4"], "text.mp4 cannot be read as a video"),
        ([tmp_path / "empty"], "has no images or videos"),
        ([tmp_path / "*.gif"], "matches nothing"),
        ([tmp_path / "photo.xyz"], "photo.xyz is not an image or video"),
        ([clip, "--provider", "warp"], "unknown provider 'warp'"),
    ):
        assert_error(run(*arguments, *outputs), message)
    assert_error(run(clip, *outputs, "--model", tmp_path / "other.onnx", model=False), "not made by pumpseg-export")
    assert_error(run(clip, *outputs, "--model", "none.onnx", model=False), "no model none.onnx")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        assert_error(run(clip, *outputs, "--provider", "cuda"), r"pip install .pumpseg\[gpu\]")
    assert files(run.folder) == []


def test_a_hostile_model_is_one_line_and_leaves_nothing(run, clip, make_model):
    outputs = ("--save", "out.mp4", "--json", "out.jsonl")
    path = make_model(name="hostile.onnx")
    model = onnx.load(path)
    model.graph.initializer.add(name="outside", data_type=1, dims=[1], data_location=1).external_data.add(
        key="location", value="*/_ORT_MEM_ADDR_/*"
    )
    path.write_bytes(model.SerializeToString())
    assert_error(run(clip, *outputs, "--model", path, model=False), r"hostile\.onnx .* keeps data outside of itself")
    model = onnx.load(make_model())
    (scale,) = (tensor for tensor in model.graph.initializer if tensor.name == "scale")
    scale.raw_data = np.float32(0).tobytes()  # scores of 255 / 0
    onnx.save(model, path)
    assert_error(run(clip, *outputs, "--model", path, model=False), r"hostile\.onnx .* score that is not from 0 to 1")
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


def test_frames_before_a_cut_are_saved_and_intact(run, tmp_path, make_clip):
    path = cut(make_clip(tmp_path / "cut.mp4", frames=60, faststart=True, audio="aac"))
    code, err = run(path, "--save", "out.mp4", "--json", "out.jsonl")
    assert code == 2
    reached, kept = re.search(
        r"cut short: it ends after frame (\d+) of 60; saved: (\d+) frames before that", err
    ).groups()
    assert files(run.folder) == ["out.jsonl", "out.mp4"]
    assert 0 < int(kept) == int(reached) < 60
    assert len((run.folder / "out.jsonl").read_text(encoding="utf-8").splitlines()) == int(kept)
    with av.open(str(run.folder / "out.mp4")) as container:
        assert len(list(container.decode(video=0))) == int(kept)


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


def test_without_a_screen_it_continues_in_one_line(clip, model_path, monkeypatch, capfd):
    monkeypatch.setattr(cli, "screen_problem", lambda: "there is no screen")
    assert main([str(clip), "--model", str(model_path)]) == 0
    assert (
        capfd.readouterr().err.count("continuing without a window: there is no screen; --serve 8000 shows a web page\n")
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


def test_several_videos_need_a_folder(run, clip, tmp_path, make_clip):
    other = make_clip(tmp_path / "other.mp4", frames=2)
    assert_error(
        run(clip, other, "--save", "out.mp4"), "2 sources: 2 videos and 0 images are not one source; use --save-dir"
    )


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
    assert all(0 < times["median"] <= times["max"] for times in stats["stages"].values())
    assert files(run.folder / "frames") == [f"{i:06}.jpg" for i in range(7)]
    assert len(files(run.folder / "cut")) >= 7
    assert "7 frames in" in err


def test_statistics_that_cannot_be_written_end_it_at_once(run, clip):
    assert_error(run(clip, "--stats", "no/folder/s.json", "--json", "out.jsonl"), "cannot write no/folder/s.json")
    assert files(run.folder) == []


def test_a_file_is_inferred_by_as_many_workers_as_its_provider_can_use(run, clip, monkeypatch):
    given = []

    def noted(*arguments, workers, **options):
        given.append(workers)
        return process(*arguments, workers=workers, **options)

    monkeypatch.setattr(cli, "process", noted)
    assert run(clip, "--json", "4.jsonl", "--threads", "4")[0] == 0
    monkeypatch.setattr(ThreadPlan, "workers_on", lambda plan, provider: 2)
    assert run(clip, "--json", "2.jsonl", "--threads", "4")[0] == 0
    assert given == [4, 2]


def test_instances_are_drawn_as_asked(run, model_path, square_frame):
    cv2.imwrite("a.png", square_frame)
    instances = Segmenter(model_path, provider="cpu", threads=1)(square_frame)
    for options, style in (
        ([], {}),
        (["--no-labels"], {"labels": False}),
        (["--masks-only"], {"masks_only": True}),
        (["--color", "class"], {"color": "class"}),
    ):
        assert run("a.png", "--save", "out.png", *options)[0] == 0
        np.testing.assert_array_equal(cv2.imread("out.png"), draw(square_frame, instances, **style))


def test_a_frame_s_way_is_short_and_described(run, clip):
    pytest.importorskip("trackers", reason='needs pip install "pumpseg[track]"')
    root, calls = Path(pumpseg.__file__).parent, Counter()

    def note(frame, event, _):
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(root):
            calls[path.relative_to(root).as_posix(), frame.f_code.co_qualname] += 1

    before = sys.getprofile()
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        assert run(clip, "--save", "out.mp4", "--json", "out.jsonl", "--track")[0] == 0
    finally:
        sys.setprofile(before)
        threading.setprofile(before)
    entered = {file for (file, _), times in calls.items() if times >= 19}  # of 20 frames
    entered.remove("inference/onnx_file.py")  # reads the model file once, in many calls
    assert len(entered) <= 18, sorted(entered)
    page = (Path(__file__).parents[3] / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    described = page.partition("## A frame's way")[2].partition("##")[0]
    assert {file for file in entered if f"`{file}`" not in described} == set()
