"""A batch on a cluster: the joining of sections in this process, and with `-m ray_cluster` a real Ray of two nodes."""

import math
import os
import sys
import threading
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pumpseg import Segmenter
from pumpseg.batch import ray_engine
from pumpseg.batch.manifest import MANIFEST
from pumpseg.batch.ray_engine import RayEngine, TaskSettings, infer_section, section_starts
from pumpseg.batch.run import DONE, FAILED, STOPPED, BatchObserver, BatchOptions, run_batch
from pumpseg.cli.video import main
from pumpseg.errors import PumpsegError, SourceError
from pumpseg.video import VideoSource
from pumpseg.video.pipeline import StreamClosed
from pumpseg.video.sources.files import find_files
from pumpseg.video.sources.video_file import Section, key_frames

EVERYTHING = BatchOptions(json_lines=True, coco=True)


@pytest.fixture(scope="module")
def segmenter(model_path):
    return Segmenter(model_path, provider="cpu", threads=1, allow_spinning=False)


def encoded(path, frames=80, container=None, options=(), size=(64, 96)):
    """A clip with B-frames and a key frame every ten frames."""
    rng = np.random.default_rng(5)
    with av.open(str(path), "w", format=container) as output:
        video = output.add_stream(
            "libx264", rate=25, options={"g": "10", "sc_threshold": "0", "bf": "3", **dict(options)}
        )
        video.height, video.width, video.pix_fmt = *size, "yuv420p"
        for i in range(frames):
            picture = np.zeros((*size, 3), np.uint8)
            picture[:48, 3 * i % 48 : 3 * i % 48 + 48] = rng.integers(200, 256, (48, 48, 3))
            output.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        output.mux(video.encode())
    return path


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, make_clip, square_frame):
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "sub").mkdir()
    encoded(folder / "long.mp4", 120)
    encoded(folder / "open-gop.mkv", options={"x264-params": "open-gop=1"})
    encoded(folder / "stream.ts", 60)
    encoded(folder / "old.avi", 40)
    make_clip(folder / "sub" / "uneven.mp4", pts=[*range(0, 400, 40), 430, 431, *range(900, 1700, 33)], audio="aac")
    make_clip(folder / "turned.mp4", frames=25, rotation=90)
    cv2.imwrite(str(folder / "photo.png"), square_frame)
    return folder


def contents(folder):
    """Every file; of a Matroska file, into which its muxer writes a random number, only the size."""
    files = {
        str(path.relative_to(folder)): path.stat().st_size if path.suffix == ".mkv" else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    files[MANIFEST] = sorted(files[MANIFEST].splitlines())
    return files


def run(inputs, out, segmenter, options=EVERYTHING, **more):
    outcomes = run_batch(find_files([f"{inputs}/**/*.*"]), out, segmenter, options, **more)
    return {str(outcome.path.relative_to(inputs)): outcome for outcome in outcomes}


@pytest.fixture(scope="module")
def alone(inputs, tmp_path_factory, segmenter):
    """What the batch comes to on one machine."""
    out = tmp_path_factory.mktemp("alone")
    run(inputs, out, segmenter)
    return contents(out)


class Tasks(RayEngine):
    """The engine without a cluster: tasks are run when they are submitted."""

    slots = 2

    def __init__(self, segmenter, section_frames):
        self.segmenter, self.section_frames = segmenter, section_frames
        self.settings = TaskSettings(segmenter.path.read_bytes(), "cpu", 1, segmenter.threshold, segmenter.tiles)
        self.sections, self.frames_here, self.cancelled = [], Counter(), 0

    def submit(self, path, section):
        self.sections.append((path.name, section))
        return infer_section(self.settings, str(path), path.stat().st_size, section)

    def wait(self, task):
        return task

    def here(self, frame):
        self.frames_here[Path(frame.source).name] += 1
        return super().here(frame)

    def cancel(self, task):
        self.cancelled += 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 60))
def test_where_a_video_is_cut(distances, minimum):
    numbers = np.cumsum([0, *distances]).tolist()
    starts = section_starts([(number, 10 * number) for number in numbers], minimum)
    assert set(starts) <= {10 * number for number in numbers}
    assert all(b - a >= 10 * minimum for a, b in zip([0, *starts], starts, strict=False))
    # No section is longer than it must be.
    assert all(number - max([0, *(s // 10 for s in starts if s <= 10 * number)]) < minimum for number in numbers)


@pytest.mark.parametrize("name", ["long.mp4", "open-gop.mkv", "sub/uneven.mp4", "turned.mp4"])
def test_sections_have_every_frame_once(inputs, name):
    path = inputs / name
    starts = section_starts(key_frames(path), 10)
    assert len(starts) >= 2
    bounds = [-math.inf, *starts, math.inf]
    sections = [Section(a, b) for a, b in pairwise(bounds)]
    joined = [frame for section in sections for frame in VideoSource(path, section=section)]
    whole = list(VideoSource(path))
    assert [frame.pts for frame in joined] == [frame.pts for frame in whole]
    for one, other in zip(joined, whole, strict=True):
        np.testing.assert_array_equal(one.image, other.image)


def test_key_frames_of_what_is_not_a_video(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    assert key_frames(tmp_path / "a.mp4") == []


@pytest.mark.parametrize("name", ["stream.ts", "old.avi"])
def test_what_cannot_be_sought_exactly_is_not_cut(inputs, name):
    assert key_frames(inputs / name) == []


@pytest.mark.parametrize("section_frames", [10, 1000])
def test_sections_are_joined_exactly(inputs, alone, tmp_path, segmenter, section_frames):
    engine = Tasks(segmenter, section_frames)
    outcomes = run(inputs, tmp_path / "out", segmenter, engine=engine, jobs=2, workers=2)
    assert {outcome.status for outcome in outcomes.values()} == {DONE}
    assert contents(tmp_path / "out") == alone
    of_long = [section for name, section in engine.sections if name == "long.mp4"]
    assert len(of_long) == (12 if section_frames == 10 else 1)
    # An AVI has no times of presentation to know its frames by.
    assert set(engine.frames_here) <= {"old.avi"}


def test_frames_that_were_decoded_differently_are_inferred_here(
    inputs, alone, tmp_path, segmenter, monkeypatch, caplog
):
    checksum, lie = ray_engine.checksum, threading.local()

    def wrong(frame):
        return checksum(frame) + (getattr(lie, "on", False) and frame.pts is not None)

    class Otherwise(Tasks):
        def submit(self, path, section):
            lie.on = True
            try:
                return super().submit(path, section)
            finally:
                lie.on = False

    monkeypatch.setattr(ray_engine, "checksum", wrong)
    engine = Otherwise(segmenter, 10)
    with caplog.at_level("INFO", "pumpseg"):
        run(inputs, tmp_path / "out", segmenter, engine=engine)
    assert contents(tmp_path / "out") == alone
    assert engine.frames_here.total() > 300
    assert "long.mp4: 120 frames were inferred here" in caplog.text


def test_a_file_that_a_node_does_not_see_as_it_is_here(inputs, segmenter, tmp_path):
    settings = TaskSettings(segmenter.path.read_bytes(), "cpu", 1, 0.5, 1)
    size = (inputs / "long.mp4").stat().st_size
    for path, seen in ((tmp_path / "missing.mp4", size), (inputs / "long.mp4", size + 1)):
        with pytest.raises(SourceError, match=r"on the node .* is missing or differs: .* all nodes share"):
            infer_section(settings, str(path), seen, Section())


def test_a_damaged_input_fails_as_it_does_alone(tmp_path, make_clip, segmenter):
    folder = tmp_path / "in"
    folder.mkdir()
    cut = make_clip(folder / "cut.mp4", frames=60, faststart=True)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 3 // 4])
    make_clip(folder / "whole.mp4", frames=12)
    (folder / "none.mp4").write_bytes(b"no video")
    one = run(folder, tmp_path / "one", segmenter)
    other = run(folder, tmp_path / "other", segmenter, engine=Tasks(segmenter, 10))
    assert [(o.status, o.error) for o in one.values()] == [(o.status, o.error) for o in other.values()]
    assert (one["cut.mp4"].status, one["whole.mp4"].status) == (FAILED, DONE)
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


def test_a_stop_completes_what_came_before(inputs, tmp_path, segmenter):
    class Stopping(Tasks):
        def wait(self, task):
            if len(self.sections) > 8:
                stop.set()
                raise StreamClosed
            return task

    stop = threading.Event()
    long = find_files([inputs / "long.mp4"])
    (outcome,) = run_batch(long, tmp_path / "out", segmenter, EVERYTHING, engine=Stopping(segmenter, 10), stop=stop)
    assert (outcome.status, outcome.frames > 0) == (STOPPED, True)
    assert len((tmp_path / "out" / "long.mp4.jsonl").read_text(encoding="utf-8").splitlines()) == outcome.frames


def test_without_ray_it_is_one_line(inputs, model_path, tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "ray", None)
    options = ["--model", str(model_path), "--provider", "cpu", "--engine", "ray"]
    assert main([str(inputs / "long.mp4"), *options, "--save-dir", str(tmp_path / "out")]) == 2
    err = capfd.readouterr().err
    assert err.startswith("pumpseg-video: error: ray cannot be imported")
    assert err.endswith('pip install "pumpseg[ray]"\n')
    assert err.count("\n") == 1
    assert main([str(inputs / "long.mp4"), *options]) == 2
    assert "--engine ray go with --save-dir" in capfd.readouterr().err


@pytest.mark.ray_cluster
def test_where_no_cluster_runs(segmenter, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(PumpsegError, match=r"^no Ray cluster can be reached \(.*\): name one in RAY_ADDRESS"):
        RayEngine(segmenter)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A Ray cluster of two nodes, each a process group of its own on this machine, with one CPU."""
    pytest.importorskip("ray", reason="the extra ray is not installed")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    with pytest.MonkeyPatch.context() as monkeypatch:
        # By default Ray's workers give way to every other program, such as other tests.
        monkeypatch.setenv("RAY_worker_niceness", "0")
        cluster = Cluster(initialize_head=True, head_node_args=node)
        cluster.add_node(**{name: value for name, value in node.items() if name != "include_dashboard"})
        cluster.wait_for_nodes()
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        yield cluster
    cluster.shutdown()


@pytest.mark.ray_cluster
def test_a_cluster_gives_the_same_bytes(cluster, inputs, alone, tmp_path, segmenter):
    with RayEngine(segmenter, provider="cpu", section_frames=10) as engine:
        assert engine.slots == 2
        outcomes = run(inputs, tmp_path / "out", segmenter, engine=engine, jobs=2, workers=2)
        with pytest.raises(PumpsegError, match="no node of the Ray cluster has 7 CPUs for a task"):
            RayEngine(segmenter, threads=7)
    assert {outcome.status for outcome in outcomes.values()} == {DONE}
    assert contents(tmp_path / "out") == alone


def busy_workers():
    """The processes of Ray that run a task just now."""
    import psutil

    found = []
    for process in psutil.process_iter(["cmdline"]):
        title = " ".join(process.info["cmdline"] or [])
        if title.startswith("ray::infer_section") and str(os.getuid()) == str(process.uids().real):
            found.append(process)
    return found


@pytest.mark.ray_cluster
def test_a_worker_that_is_killed_in_the_middle_is_replaced(cluster, tmp_path, segmenter, monkeypatch):
    folder = tmp_path / "in"
    folder.mkdir()
    encoded(folder / "clip.mp4", 2000, options={"preset": "ultrafast"})
    run(folder, tmp_path / "alone", segmenter, BatchOptions(json_lines=True))
    engine = RayEngine(segmenter, provider="cpu", section_frames=200)
    killed, counts = [], []

    class Killer(BatchObserver):
        def frame(self, file, done):
            counts.append(done)
            deadline = time.monotonic() + 30
            while done >= 100 and not killed and time.monotonic() < deadline:
                for process in busy_workers()[:1]:
                    process.kill()
                    killed.append(process.pid)

    options = BatchOptions(json_lines=True)
    with engine:
        outcomes = run(folder, tmp_path / "out", segmenter, options, engine=engine, workers=2, observer=Killer())
    assert len(killed) == 1
    assert counts == list(range(1, 2001))
    assert outcomes["clip.mp4"].status == DONE
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


@pytest.mark.ray_cluster
def test_the_command_on_a_cluster(cluster, inputs, tmp_path, model_path, capfd):
    (tmp_path / "none.mp4").write_bytes(b"no video")
    options = ["--model", str(model_path), "--provider", "cpu", "--json", "--no-annotate"]
    names = [str(inputs / "long.mp4"), str(inputs / "photo.png"), str(tmp_path / "none.mp4")]
    for out, more in (("ray", ["--engine", "ray"]), ("alone", [])):
        assert main([*names, "--save-dir", str(tmp_path / out), *options, *more]) == 1
        assert "3 inputs: 2 done, 1 failed; 121 frames" in capfd.readouterr().err
    assert contents(tmp_path / "ray") == contents(tmp_path / "alone")
    # One machine resumes what a cluster began.
    assert main([*names, "--save-dir", str(tmp_path / "ray"), *options]) == 1
    assert "3 inputs: 2 skipped, 1 failed" in capfd.readouterr().err
