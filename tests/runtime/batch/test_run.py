import json
import os
import re
import struct
import threading
import zlib
from dataclasses import replace

import av
import cv2
import pytest

from pumpseg import Line, Segmenter, Zone
from pumpseg.batch.manifest import MANIFEST
from pumpseg.batch.report import batch_table
from pumpseg.batch.run import DONE, FAILED, SKIPPED, STOPPED, BatchObserver, BatchOptions, run_batch
from pumpseg.errors import SinkError
from pumpseg.video import Style
from pumpseg.video.sources.files import find_files

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
    assert len(find_files([f"{inputs}/*.*"], inputs)) == 3, "results next to their inputs"


def test_zones_are_counted_in_every_input(inputs, tmp_path, segmenter):
    zone, line = Zone("all", [0, 0, 1, 0, 1, 1, 0, 1]), Line("down", [0, 0.5, 1, 0.5])
    options = BatchOptions(annotate=False, json_lines=True, track=True, shapes=(zone, line))
    outcomes = run(inputs, tmp_path / "out", segmenter, options)
    assert {outcome.status for outcome in outcomes.values()} == {DONE}
    for name, of_video in (("a.mp4", True), ("a.png", False)):
        totals = outcomes[name].summary.counts
        assert totals["zones"]["all"]["max_occupancy"] > 0
        assert (totals["lines"].keys() == {"down"}) == of_video
        first = json.loads((tmp_path / "out" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()[0])
        assert first["zones"]["all"]["occupancy"] == pytest.approx(totals["zones"]["all"]["max_occupancy"], abs=0.2)
    again = run(inputs, tmp_path / "out", segmenter, options)
    assert {outcome.status for outcome in again.values()} == {SKIPPED}
    other = run(inputs, tmp_path / "out", segmenter, replace(options, shapes=(replace(zone, share=0.9), line)))
    assert {outcome.status for outcome in other.values()} == {DONE}


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


@pytest.mark.parametrize("change", ["input", "same size", "output", "crop", "threshold", "outputs", "style"])
def test_what_has_changed_is_done_again(inputs, tmp_path, segmenter, make_clip, model_path, change):
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
    elif change == "threshold":
        segmenter = Segmenter(model_path, provider="cpu", threads=1, threshold=0.8)
    elif change == "style":
        options = replace(EVERYTHING, style=Style(labels=False))
    else:
        options = BatchOptions(json_lines=True)
    statuses = {name: outcome.status for name, outcome in run(inputs, out, segmenter, options).items()}
    redone = set(statuses) if change in ("threshold", "outputs", "style") else {"a.mp4"}
    assert statuses == {name: DONE if name in redone else SKIPPED for name in statuses}
    assert {o.status for o in run(inputs, out, segmenter, options).values()} == {SKIPPED}


def test_a_failing_input_does_not_stop_the_batch(inputs, tmp_path, segmenter, make_clip):
    (inputs / "b.avi").write_bytes(b"no video")
    (inputs / "a.png").write_bytes(b"no image")
    cut = make_clip(inputs / "cut.mp4", frames=60, faststart=True)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 3 // 4])
    outcomes = run(inputs, tmp_path / "out", segmenter)
    assert {name for name, o in outcomes.items() if o.status == FAILED} == {"b.avi", "a.png", "cut.mp4"}
    assert {name for name, o in outcomes.items() if o.status == DONE} == {"a.mp4", "sub/a.mp4"}
    assert "cannot be read as a video" in outcomes["b.avi"].error
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


class StopAt(BatchObserver):
    """Stops the batch when an input has so many frames done."""

    def __init__(self, frames, stop):
        self.frames, self.stop = frames, stop

    def frame(self, file, done):
        if done == self.frames:
            self.stop.set()


def test_an_observer_follows_every_input(inputs, tmp_path, segmenter):
    class Notes(BatchObserver):
        def __init__(self):
            self.events = []

        def start(self, file, frames):
            self.events.append((str(file.place), "start", frames))

        def frame(self, file, done):
            self.events.append((str(file.place), done))

        def end(self, outcome):
            self.events.append((outcome.path.name, outcome.status))

    notes = Notes()
    run(inputs, tmp_path / "out", segmenter, observer=notes)
    assert [event for event in notes.events if event[0] == "sub/a.mp4"] == [
        ("sub/a.mp4", "start", 5),
        *(("sub/a.mp4", i) for i in range(1, 6)),
    ]
    assert ("a.png", DONE) in notes.events


def test_a_style_marks_the_copies(inputs, tmp_path, segmenter):
    for out, style in (("labels", Style()), ("plain", Style(masks_only=True))):
        run(inputs, tmp_path / out, segmenter, BatchOptions(style=style))
    one, other = (cv2.imread(str(tmp_path / out / "a.png")) for out in ("labels", "plain"))
    assert (one != other).any()


def test_a_stop_finishes_the_input_in_progress_and_leaves_the_rest(inputs, tmp_path, segmenter):
    stop = threading.Event()
    outcomes = run(inputs, tmp_path / "out", segmenter, stop=stop, observer=StopAt(5, stop))
    assert {name: o.status for name, o in outcomes.items()} == {
        "a.png": DONE,
        "a.mp4": STOPPED,
        "b.avi": STOPPED,
        "sub/a.mp4": STOPPED,
    }
    with av.open(str(tmp_path / "out" / "a.mp4")) as container:
        assert len(list(container.decode(video=0))) == outcomes["a.mp4"].frames == 5
    assert {o.status for o in run(inputs, tmp_path / "out", segmenter).values()} == {DONE, SKIPPED}


def test_a_fault_of_the_batch_itself_ends_it(inputs, tmp_path, segmenter):
    class Faulty(BatchObserver):
        def end(self, outcome):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(inputs, tmp_path / "out", segmenter, observer=Faulty())


@pytest.mark.parametrize(
    "error", [RuntimeError("the model\nfailed"), MemoryError(), UnicodeDecodeError("ascii", b"x", 0, 1, "y")]
)
def test_whatever_an_input_raises_is_its_row(inputs, tmp_path, model_path, error):
    segmenter = Segmenter(model_path, provider="cpu", threads=1)
    infer = segmenter.infer

    def fail(frame):
        if frame.source.endswith("b.avi") and frame.index == 3:
            raise error
        return infer(frame)

    segmenter.infer = fail
    outcomes = run(inputs, tmp_path / "out", segmenter)
    assert {name for name, o in outcomes.items() if o.status == FAILED} == {"b.avi"}
    assert f"b.avi: {type(error).__name__}" in outcomes["b.avi"].error
    assert not [name for name in contents(tmp_path / "out") if "b.avi" in name]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no FIFOs")
def test_what_is_no_file_is_a_row(inputs, tmp_path, segmenter):
    os.mkfifo(inputs / "fifo.mp4")
    (inputs / "zero.png").symlink_to("/dev/zero")
    (inputs / "loop.png").symlink_to(inputs / "loop.png")
    (inputs / "gone.png").symlink_to(inputs / "nothing.png")
    (inputs / os.fsdecode(b"caf\xe9.png")).write_bytes((inputs / "a.png").read_bytes())
    # A picture whose header claims more than OpenCV takes.
    huge = bytearray((inputs / "a.png").read_bytes())
    huge[16:24] = struct.pack(">II", 100_000, 100_000)
    huge[29:33] = struct.pack(">I", zlib.crc32(huge[12:29]))
    (inputs / "huge.png").write_bytes(huge)
    outcomes = run_batch(find_files([inputs]), tmp_path / "out", segmenter)
    failed = {ascii(o.path.name): o.error.replace(f"{inputs}/", "") for o in outcomes if o.status == FAILED}
    assert failed.pop("'huge.png'").startswith("huge.png is too large: 100000x100000")
    assert failed.pop("'caf\\udce9.png'").endswith("the name is not UTF-8: rename the file")
    assert failed == {
        "'fifo.mp4'": "fifo.mp4 is not a regular file",
        "'zero.png'": "zero.png is not a regular file",
        "'loop.png'": "no such file: loop.png",
        "'gone.png'": "no such file: gone.png",
    }
    assert {o.status for o in outcomes if o.path.name in ("a.mp4", "a.png", "b.avi")} == {DONE}


def test_two_batches_in_one_folder_are_refused(inputs, tmp_path, segmenter):
    class Second(BatchObserver):
        message = ""

        def start(self, file, frames):
            try:
                run(inputs, tmp_path / "out", segmenter)
            except SinkError as error:
                self.message = str(error)

    second = Second()
    assert {o.status for o in run(inputs, tmp_path / "out", segmenter, observer=second).values()} == {DONE}
    assert re.fullmatch(r"process \d+ on \S+ writes into .*out: wait for it, or name another folder", second.message)
    assert {o.status for o in run(inputs, tmp_path / "out", segmenter).values()} == {SKIPPED}


def test_the_manifest_has_what_was_written(inputs, tmp_path, segmenter):
    class Foreign(BatchObserver):
        def frame(self, file, done):
            if file.path.name == "b.avi" and done == 4:
                (tmp_path / "out" / "b.avi.crops" / "b-000000-00.png").unlink()

    outcomes = run(inputs, tmp_path / "out", segmenter, observer=Foreign())
    assert {name for name, o in outcomes.items() if o.status == FAILED} == {"b.avi"}
    assert re.search(r"\d+ files were written, \d+ are there: .* was changed", outcomes["b.avi"].error)
    assert {o.status for o in run(inputs, tmp_path / "out", segmenter).values()} == {DONE, SKIPPED}


def test_results_that_would_meet_are_refused(inputs, tmp_path, segmenter):
    files = find_files([inputs / "a.mp4", inputs / "sub" / "a.mp4"])
    with pytest.raises(SinkError, match="would both be written to"):
        run_batch(files, tmp_path / "out", segmenter)
    with pytest.raises(SinkError, match="is an input"):
        run_batch(files[:1], inputs, segmenter)
    assert not (tmp_path / "out").exists()
