import sys

import pytest

from pumpseg.errors import ModelFileError
from pumpseg.inference.model_file import choose_model
from pumpseg_bench.frames import FrameFile
from pumpseg_bench.nodes import Arithmetic
from pumpseg_bench.peak_throughput import Peak
from pumpseg_bench.rounds import Plan, benchmark, frames_per_round, peak_share, planned_rows, started

PLANTED = """
import dataclasses, json, sys
from pumpseg.inference import providers
from pumpseg.segmenter import Segmenter
from pumpseg_bench import worker

provider = json.loads(sys.argv[1])["provider"]
if provider == "cuda":
    # In the CPU wheel, loads, is listed by get_providers(), and runs not one node.
    providers.PROVIDERS["cuda"] = providers.Provider("cuda", "AzureExecutionProvider", "")
if provider == "coreml":
    providers.PROVIDERS["coreml"] = providers.Provider("coreml", "CPUExecutionProvider", "")
    del providers.PROVIDERS["cpu"]
    right = Segmenter.timed

    def wrong(self, frame):
        instances, timings = right(self, frame)
        cells = dataclasses.replace(instances.cells, boxes=instances.cells.boxes * 0.8)
        return dataclasses.replace(instances, cells=cells), timings

    Segmenter.timed = wrong
if provider == "openvino":
    run = worker.SegmenterWorker.run

    def dying(self, count):
        if count == 3:
            sys.stderr.write("segmentation fault\\n")
            sys.stderr.flush()
            import os
            os._exit(139)
        return run(self, count)

    worker.SegmenterWorker.run = dying
    providers.PROVIDERS["openvino"] = providers.PROVIDERS["cpu"]
    providers.OPENVINO = "none"
worker.main()
"""


@pytest.fixture(scope="module")
def report(photo, tmp_path_factory):
    """Of a run with one provider that is right and others that are not, each in its own way."""
    script = tmp_path_factory.mktemp("planted") / "worker.py"
    script.write_text(PLANTED, encoding="utf-8")
    providers = ("cpu", "cuda", "coreml", "openvino", "tensorrt")
    plan = Plan(("fast-fp32",), providers, required=False, threads=(1,), source=str(photo), frames=30)
    return benchmark(plan, command=(sys.executable, str(script)))


REFUSING = """
import json, pathlib, sys
from pumpseg.inference import providers

setup = json.loads(sys.argv[1])
if setup["provider"] == "directml" or (setup["provider"], pathlib.Path(setup["model"]).stem) == ("openvino", "refused"):
    print(json.dumps({"error": f"provider {setup['provider']} cannot run it", "kind": "ProviderError"}))
    sys.exit(2)
print(json.dumps({"result": "ready"}), flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("models", [("good", "refused"), ("refused", "good")])
def test_a_model_that_a_provider_refuses_costs_its_own_row_only(tmp_path, models):
    script = tmp_path / "worker.py"
    script.write_text(REFUSING, encoding="utf-8")
    for name in models:
        (tmp_path / f"{name}.onnx").touch()
    paths = tuple(str(tmp_path / f"{name}.onnx") for name in models)
    plan = Plan(paths, ("cpu", "openvino", "directml"), required=False, threads=(1,))
    rows = planned_rows(plan, FrameFile(tmp_path / "frames", 1, 8, 8))
    command = (sys.executable, str(script))
    with started(rows, command, required=False, on_step=lambda text, share: None) as (rows, unavailable):
        pass
    states = {(row.path.stem, row.setup.provider): row.failure for row in rows}
    assert states.pop(("refused", "openvino")).endswith("cannot run it")
    assert states == dict.fromkeys([("good", "cpu"), ("good", "openvino"), ("refused", "cpu")])
    assert [provider.provider for provider in unavailable] == ["directml"]


def row_of(report, provider):
    return next(row for row in report.rows if row.provider == provider)


def test_the_cpu_is_right(report):
    row = row_of(report, "cpu")
    assert row.frames == 30
    assert row.fps > 0
    assert row.agreement.agrees
    assert row.agreement.instances > 0
    assert not row.fallen_back
    assert set(row.nodes) == {"cpu"}
    assert 0 < row.peak_share < 1.5
    assert len(row.cold_start) == 3
    assert row.latency.p50_interval[0] <= row.latency.p50 <= row.latency.p50_interval[1]
    assert not any(row.label in problem for problem in report.problems())


def test_a_provider_that_silently_falls_back_is_reported(report):
    row = row_of(report, "cuda")
    assert row.fallen_back
    assert set(row.nodes) == {"cpu"}
    assert any("has fallen back" in problem and "cuda" in problem for problem in report.problems())


def test_a_fast_provider_that_is_wrong_is_reported(report):
    row = row_of(report, "coreml")
    assert row.fps > 0
    assert not row.fallen_back
    assert not row.agreement.agrees
    assert row.agreement.mask_iou < 0.95
    assert any("disagrees" in problem and "coreml" in problem for problem in report.problems())


def test_a_row_that_dies_is_reported_and_the_others_go_on(report):
    row = row_of(report, "openvino")
    assert row.frames == 0
    assert row.latency is None
    assert "ended with code 139" in row.failure
    assert any("failed" in problem and "openvino" in problem for problem in report.problems())


def test_an_unavailable_provider_is_listed_with_its_pip_command(report):
    (unavailable,) = report.unavailable
    assert unavailable.provider == "tensorrt"
    assert "tensorrt is not in this onnxruntime" in unavailable.reason
    assert 'pip install "pumpseg[gpu]"' in unavailable.install
    assert "pip" not in unavailable.reason


def test_frames_are_spread_over_the_rounds():
    assert frames_per_round(25, 10) == [3] * 5 + [2] * 5
    assert frames_per_round(3, 10) == [1, 1, 1]


def test_models_of_one_name_are_refused(tmp_path, frames):
    paths = [tmp_path / folder / "mine.onnx" for folder in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        path.touch()
    with pytest.raises(ModelFileError, match="same name"):
        planned_rows(Plan(tuple(map(str, paths)), ("cpu",), required=True, threads=(1,)), frames)


def test_a_shipped_model_is_measured_in_the_precision_that_a_segmenter_takes(frames):
    rows = planned_rows(Plan(("fast",), ("cpu", "cuda"), required=False, threads=(1, 2)), frames)
    assert [(row.setup.provider, row.setup.threads) for row in rows] == [("cpu", 1), ("cpu", 2), ("cuda", 2)]
    assert [row.path for row in rows] == [choose_model("fast", row.setup.provider)[0] for row in rows]
    assert rows[-1].model == "fast"


def test_a_file_named_twice_is_measured_once(frames):
    (row,) = planned_rows(Plan(("fast-fp32", "fast-fp32"), ("cpu",), required=True, threads=(1,)), frames)
    assert row.model == "fast"


def test_each_kind_of_arithmetic_counts_against_its_own_peak():
    peak = Peak(threads=1, float32=100.0, int8=400.0)
    assert peak_share(Arithmetic(3e9, 0.0), peak, session=60.0) == pytest.approx(0.5)
    assert peak_share(Arithmetic(3e9, 2e9), peak, session=60.0) == pytest.approx(0.25)
    assert peak_share(Arithmetic(3e9, 0.0), peak, session=20.0) == 1.0
