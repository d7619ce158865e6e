import dataclasses
import subprocess
import sys

import cv2
import pytest

pytest.importorskip("psutil", reason='needs pip install "pumpseg[bench]"')

from pumpseg.inference.model_file import find_model
from pumpseg.video.sources.open import open_source
from pumpseg_bench.accuracy_check import Agreement
from pumpseg_bench.frames import write_frames
from pumpseg_bench.latency import latency_of
from pumpseg_bench.nodes import Arithmetic
from pumpseg_bench.peak_throughput import Peak
from pumpseg_bench.report import STAGES, BenchmarkedModel, BenchReport, Machine, Row, Unavailable
from pumpseg_bench.worker import Setup


@pytest.fixture(scope="session")
def photo(tmp_path_factory):
    """One frame of the demo as an image: a source that takes no time."""
    path = tmp_path_factory.mktemp("photo") / "pumpkins.png"
    cv2.imwrite(str(path), next(iter(open_source("demo"))).image)
    return path


@pytest.fixture(scope="session")
def frames(photo):
    return write_frames(str(photo), photo.with_name("frames"))


@pytest.fixture
def setup(frames):
    """The shipped model on one thread of the CPU."""
    return Setup(str(find_model()), "cpu", 1, 1, frames)


@pytest.fixture(scope="session")
def run_bench():
    """Runs the command; returns the finished process with its output as text."""

    def run(*arguments):
        command = [sys.executable, "-m", "pumpseg_bench.cli", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, encoding="utf-8", check=False, timeout=600)

    return run


@pytest.fixture
def bench_report():
    """A report of three rows: one right, one that fell back, and one that failed; and one unavailable provider."""
    rounds = tuple(tuple(10.0 + 0.1 * ((i * 7 + j) % 5) for j in range(6)) for i in range(5))
    row = Row(
        model="fast",
        provider="cpu",
        threads=1,
        batch=1,
        cold_start=(0.5, 0.3, 0.4),
        warmup=(12.0, 11.0),
        rounds=rounds,
        frames=30,
        latency=latency_of(rounds),
        fps=95.0,
        stages=dict.fromkeys(STAGES, 2.5),
        instances_per_frame=3.0,
        cpu_cores=0.98,
        peak_memory=200 * 2**20,
        nodes={"cpu": 300},
        fallen_back=False,
        operators={"Conv": 8.0, "Relu": 1.0, **{f"Small{i}": 0.1 for i in range(10)}},
        agreement=Agreement(12, 1.0, 0.99, 0.985, 0.95, 0.01, True),
        peak_share=0.75,
        failure=None,
    )
    fallen_back = dataclasses.replace(row, provider="cuda", threads=2, fallen_back=True, operators={})
    nothing = dict.fromkeys(
        ("latency", "fps", "instances_per_frame", "cpu_cores", "peak_memory", "agreement", "peak_share")
    )
    nothing |= {"rounds": (), "frames": 0, "stages": {}, "nodes": {}, "operators": {}}
    failed = dataclasses.replace(
        row, provider="openvino", batch=4, failure="its process ended with code 139", **nothing
    )
    return BenchReport(
        created="2026-01-02T03:04:05+00:00",
        source="demo",
        frame_size=(480, 640),
        distinct_frames=30,
        reference="itself on cpu",
        machine=Machine("Some CPU", 4, 16 * 2**30, "Linux x86_64", {"python": "3.11.7"}),
        other_cores=0.1,
        peaks=(Peak(1, 120.0, 400.0),),
        models=(BenchmarkedModel("fast", 8_400_000, "edge", (384, 384), Arithmetic(3.2e9, 0.0)),),
        rows=(row, fallen_back, failed),
        unavailable=(Unavailable("tensorrt", "did not load", 'pip install "pumpseg[gpu]"'),),
        interrupted=False,
    )


@pytest.fixture
def compared_report(bench_report):
    """The report next to an earlier one of the same machine, twice as slow, with another version of Python."""
    from pumpseg_bench.against import compare_reports

    row = bench_report.rows[0]
    rounds = tuple(tuple(2 * sample for sample in samples) for samples in row.rounds)
    earlier = dataclasses.replace(
        bench_report,
        rows=(dataclasses.replace(row, rounds=rounds), dataclasses.replace(row, threads=8)),
        machine=dataclasses.replace(bench_report.machine, versions={"python": "3.12.1"}),
        other_cores=2.0,
    )
    return dataclasses.replace(bench_report, against=compare_reports(bench_report, earlier, "earlier.json"))
