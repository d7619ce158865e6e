import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import av
import cv2
import numpy as np
import pytest

from pumpseg import Segmenter
from pumpseg.batch.manifest import MANIFEST, Entry, Fingerprint, Manifest
from pumpseg.batch.report import batch_table
from pumpseg.batch.run import DONE, FAILED, SKIPPED, STOPPED, BatchOptions, run_batch
from pumpseg.errors import SinkError
from pumpseg.video.sources.open import find_files

EVERYTHING = BatchOptions(json_lines=True, coco=True, crops=True)


@pytest.fixture(scope="module")
def segmenter(model_path):
    return Segmenter(model_path, provider="cpu", threads=1, allow_spinning=False)


@pytest.fixture
def inputs(tmp_path, make_clip, square_frame):
    folder = tmp_path / "inputs"
    (folder / "sub").mkdir(parents=True)
    make_clip(folder / "a.mp4", frames=12)
    make_clip(folder / "b.avi", frames=8)
    make_clip(folder / "sub" / "a.mp4", frames=5)
    cv2.imwrite(str(folder / "a.png"), square_frame)
    return folder


def run(inputs, out, segmenter, options=EVERYTHING, **more):
    outcomes = run_batch(find_files([f"{inputs}/**/*.*"]), out, segmenter, options, **more)
    return {str(outcome.path.relative_to(inputs)): outcome for outcome in outcomes}


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_results_are_no_inputs_of_a_pattern_from_above(inputs, segmenter):
    out = inputs / "results"
    first = run_batch(find_files([f"{inputs}/**/*.*"], out), out, segmenter, EVERYTHING)
    assert {outcome.status for outcome in first} == {DONE}
    again = run_batch(find_files([f"{inputs}/**/*.*"], out), out, segmenter, EVERYTHING)
    assert [outcome.path for outcome in again] == [outcome.path for outcome in first]
    assert {outcome.status for outcome in again} == {SKIPPED}
    assert len(find_files([f"{inputs}/*.*"], inputs)) == 3, "results beside their inputs"


def test_every_input_has_results_of_its_own(inputs, tmp_path, segmenter):
    outcomes = run(inputs, tmp_path / "out", segmenter)
    assert {name: (o.status, o.frames) for name, o in outcomes.items()} == {
        "a.mp4": (DONE, 12),
        "a.png": (DONE, 1),
        "b.avi": (DONE, 8),
        "sub/a.mp4": (DONE, 5),
    }
    written = {name for name in contents(tmp_path / "out") if ".crops/" not in name}
    annotated = {"a.mp4", "a.png", "b.avi.mp4", "sub/a.mp4"}
    named = {f"{name}{suffix}" for name in outcomes for suffix in (".jsonl", ".coco.json")}
    assert written == annotated | named | {MANIFEST}
    assert (tmp_path / "out" / "a.mp4.crops" / "a-000003-00.png").is_file()
    with av.open(str(tmp_path / "out" / "b.avi.mp4")) as container:
        assert len(list(container.decode(video=0))) == 8
    table = batch_table(list(outcomes.values()))
    assert table.splitlines()[0].split() == ["input", "status", "frames", "instances", "fps"]
    assert table.splitlines()[-1].startswith("4 inputs: 4 done; 26 frames, ")


def test_a_second_run_skips_what_is_finished(inputs, tmp_path, segmenter, monkeypatch):
    out = tmp_path / "out"
    first = run(inputs, out, segmenter)
    before = contents(out)
    # The same files, named another way.
    monkeypatch.chdir(inputs)
    again = run_batch(find_files(["./sub/../**/*.*"]), out, segmenter, EVERYTHING)
    assert {outcome.status for outcome in again} == {SKIPPED}
    assert sorted(o.instances for o in again) == sorted(o.instances for o in first.values())
    assert contents(out) == before


@pytest.mark.parametrize("change", ["input", "same size", "output", "crop", "score", "outputs"])
def test_what_is_no_longer_what_it_was_is_done_again(inputs, tmp_path, segmenter, make_clip, model_path, change):
    out, options = tmp_path / "out", EVERYTHING
    run(inputs, out, segmenter)
    if change == "input":
        make_clip(inputs / "a.mp4", frames=13)
    elif change == "same size":
        data = bytearray((inputs / "a.mp4").read_bytes())
        data[data.index(b"x264 - core")] ^= 1  # the encoder's remark about itself
        (inputs / "a.mp4").write_bytes(data)
    elif change == "output":
        (out / "a.mp4.jsonl").unlink()
    elif change == "crop":
        next((out / "a.mp4.crops").iterdir()).unlink()
    elif change == "score":
        segmenter = Segmenter(model_path, provider="cpu", threads=1, threshold=0.8)
    else:
        options = BatchOptions(json_lines=True)
    statuses = {name: outcome.status for name, outcome in run(inputs, out, segmenter, options).items()}
    redone = set(statuses) if change in ("score", "outputs") else {"a.mp4"}
    assert statuses == {name: DONE if name in redone else SKIPPED for name in statuses}
    assert {o.status for o in run(inputs, out, segmenter, options).values()} == {SKIPPED}


def test_one_that_fails_does_not_hold_up_the_others(inputs, tmp_path, segmenter, make_clip):
    (inputs / "b.avi").write_bytes(b"no video")
    (inputs / "a.png").write_bytes(b"no image")
    cut = make_clip(inputs / "cut.mp4", frames=60, faststart=True)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 3 // 4])
    outcomes = run(inputs, tmp_path / "out", segmenter)
    assert {name for name, o in outcomes.items() if o.status == FAILED} == {"b.avi", "a.png", "cut.mp4"}
    assert {name for name, o in outcomes.items() if o.status == DONE} == {"a.mp4", "sub/a.mp4"}
    assert "no video that can be read" in outcomes["b.avi"].error
    assert "cut short" in outcomes["cut.mp4"].error
    table = batch_table(list(outcomes.values()))
    assert table.count("failed: ") == 3
    # They are tried again, the others not.
    again = run(inputs, tmp_path / "out", segmenter)
    assert {o.status for o in again.values()} == {FAILED, SKIPPED}


def test_jobs_give_the_same_results(inputs, tmp_path, segmenter):
    run(inputs, tmp_path / "one", segmenter)
    run(inputs, tmp_path / "three", segmenter, jobs=3, workers=2)
    one, three = contents(tmp_path / "one"), contents(tmp_path / "three")
    assert sorted(one.pop(MANIFEST).splitlines()) == sorted(three.pop(MANIFEST).splitlines())
    assert one == three


def test_a_stop_finishes_the_input_under_way_and_leaves_the_rest(inputs, tmp_path, segmenter):
    stop = threading.Event()
    outcomes = run(inputs, tmp_path / "out", segmenter, stop=stop, on_frame=lambda f, done: done == 5 and stop.set())
    assert {name: o.status for name, o in outcomes.items()} == {
        "a.png": DONE,
        "a.mp4": STOPPED,
        "b.avi": STOPPED,
        "sub/a.mp4": STOPPED,
    }
    with av.open(str(tmp_path / "out" / "a.mp4")) as container:
        assert len(list(container.decode(video=0))) == outcomes["a.mp4"].frames == 5
    assert {o.status for o in run(inputs, tmp_path / "out", segmenter).values()} == {DONE, SKIPPED}


def test_a_fault_of_ours_ends_the_batch(inputs, tmp_path, model_path):
    segmenter = Segmenter(model_path, provider="cpu", threads=1)

    def fail(frame):
        raise ZeroDivisionError

    segmenter.timed = fail
    with pytest.raises(ZeroDivisionError):
        run(inputs, tmp_path / "out", segmenter)


def test_results_that_would_meet_are_refused(inputs, tmp_path, segmenter):
    files = find_files([inputs / "a.mp4", inputs / "sub" / "a.mp4"])
    with pytest.raises(SinkError, match="would both be written to"):
        run_batch(files, tmp_path / "out", segmenter)
    with pytest.raises(SinkError, match="is an input"):
        run_batch(files[:1], inputs, segmenter)
    assert not (tmp_path / "out").exists()


def test_a_manifest_survives_a_crash_while_it_was_written(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"content")
    entry = Entry(Fingerprint.of(path), {"score": 0.5}, {}, 3, 4)
    manifest = Manifest(tmp_path)
    manifest.add(path, entry)
    whole = manifest.path.read_bytes()
    manifest.path.write_bytes(whole + whole[: len(whole) // 2])
    again = Manifest(tmp_path)
    assert again.is_done(path, {"score": 0.5}) == entry
    assert again.is_done(path, {"score": 0.6}) is None
    again.add(path, entry)
    assert manifest.path.read_bytes() == whole * 2
    manifest.path.write_bytes(b"{}\n")
    with pytest.raises(SinkError, match=r"line 1 of .*manifest\.jsonl is damaged"):
        Manifest(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="kills as POSIX does")
def test_killed_in_the_middle_and_run_again_gives_identical_outputs(tmp_path, make_clip, model_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    for name, frames in (("a.mp4", 10), ("b.mp4", 1500), ("c.mp4", 10)):
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


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    if not shutil.which("mount") or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def command(*arguments):
    line = [sys.executable, "-m", "pumpseg.cli.video", *map(str, arguments), "--no-show"]
    return subprocess.run(line, capture_output=True, text=True)


def bright_noise(path, frames, size):
    """A clip that is full of instances and takes much room, marked or not."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "10"})
        video.height, video.width, video.pix_fmt = *size, "yuv420p"
        for _ in range(frames):
            picture = rng.integers(190, 256, (*size, 3), np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(video.encode())
    return path


@pytest.mark.parametrize(
    "output", ["--save=out.mp4", "--save=frames", "--save-crops=crops", "--json=out.jsonl", "--coco=out.json"]
)
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(tmp_path, small_disk, model_path, output):
    clip = bright_noise(tmp_path / "clip.mp4", 20, (128, 128))
    with (small_disk / "ballast").open("wb") as ballast:
        ballast.write(bytes(1024 * 1024 - 16 * 1024))
    option, name = output.split("=")
    done = command(clip, "--model", model_path, option, small_disk / name)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if "error" in line]
    assert len(errors) == 1
    assert errors[0].startswith("pumpseg-video: error: cannot write ")
    assert "Traceback" not in done.stderr
    assert errors[0].endswith("No space left on device")
    left = [path for path in small_disk.rglob("*") if path.is_file() and path.name != "ballast"]
    assert bool(left) == (name in ("frames", "crops"))
    assert all(cv2.imread(str(path), cv2.IMREAD_UNCHANGED) is not None for path in left)


def test_a_full_disk_in_a_batch(tmp_path, small_disk, model_path, make_clip):
    bright_noise(tmp_path / "large.mp4", 60, (256, 256))
    make_clip(tmp_path / "small.mp4", frames=5)
    with (small_disk / "ballast").open("wb") as ballast:
        ballast.write(bytes(1024 * 1024 - 40 * 1024))
    inputs = (tmp_path / "large.mp4", tmp_path / "small.mp4", "--save-dir", small_disk, "--model", model_path)
    done = command(*inputs)
    assert done.returncode == 1, done.stderr
    assert "2 inputs: 1 done, 1 failed" in done.stderr
    assert "No space left on device" in done.stderr
    assert sorted(path.name for path in small_disk.iterdir()) == ["ballast", MANIFEST, "small.mp4"]
    (small_disk / "ballast").unlink()
    assert command(*inputs).returncode == 0


def test_cutouts_that_fill_the_disk_leave_room_for_the_other_inputs(tmp_path, small_disk, model_path, make_clip):
    bright_noise(tmp_path / "large.mp4", 60, (256, 256))
    make_clip(tmp_path / "small.mp4", frames=5)
    with (small_disk / "ballast").open("wb") as ballast:
        ballast.write(bytes(1024 * 1024 - 200 * 1024))
    inputs = (tmp_path / "large.mp4", tmp_path / "small.mp4", "--save-dir", small_disk, "--model", model_path)
    options = ("--save-crops", "--no-annotate")
    done = command(*inputs, *options)
    assert done.returncode == 1, done.stderr
    assert "2 inputs: 1 done, 1 failed" in done.stderr
    assert "No space left on device" in done.stderr
    assert sorted(path.name for path in small_disk.iterdir()) == ["ballast", MANIFEST, "small.mp4.crops"]
    assert command(*inputs, *options, "--threshold", "0.99").returncode == 0


def test_the_command_prints_a_table_and_tells_by_its_exit_code(inputs, tmp_path, model_path):
    (inputs / "b.avi").write_bytes(b"no video")
    arguments = ["--model", model_path, "--save-dir", tmp_path / "out", "--jobs", 2, "--no-annotate", "--json"]
    done = command(inputs / "a.mp4", inputs / "a.png", inputs / "b.avi", *arguments, "--stats", tmp_path / "s.json")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "3 inputs: 2 done, 1 failed" in done.stderr
    assert set(contents(tmp_path / "out")) == {"a.mp4.jsonl", "a.png.jsonl", MANIFEST}
    stats = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))["inputs"]
    assert [one["status"] for one in stats] == ["done", "done", "failed"]
    assert stats[0]["frames"] == 12
    assert "no video" in stats[2]["error"]
