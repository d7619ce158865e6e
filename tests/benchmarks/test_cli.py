import json
import signal
import subprocess
import sys

import jsonschema
import pytest

from pumpseg.inference.model_file import choose_model
from pumpseg_bench.report import json_schema


@pytest.fixture(scope="module")
def run(run_bench, photo, tmp_path_factory):
    """Real rows on the CPU and, where it is installed, OpenVINO: the finished process, its JSON, and the file of it."""
    folder = tmp_path_factory.mktemp("bench")
    page, values = folder / "bench.html", folder / "bench.json"
    arguments = ("--source", photo, "--frames", 30, "--threads", 1, "--operators", "--json", values, "--html", page)
    process = run_bench(*arguments)
    assert process.returncode == 0, process.stderr
    assert "<h1>pumpseg-bench</h1>" in page.read_text(encoding="utf-8")
    return process, json.loads(values.read_text(encoding="utf-8")), values


def test_rows_of_the_cpu_and_of_openvino_are_real(run):
    pytest.importorskip("openvino")
    process, report, _ = run
    rows = {row["provider"]: row for row in report["rows"]}
    assert {"cpu", "openvino"} <= set(rows)
    for provider in ("cpu", "openvino"):
        assert set(rows[provider]["nodes"]) == {provider}
        assert rows[provider]["frames"] == 30
        assert rows[provider]["fps"] > 0
        assert rows[provider]["agreement"]["agrees"]
        assert rows[provider]["agreement"]["mask_iou"] > 0.98
        assert rows[provider]["model"] == choose_model(None, provider)[0].stem, "the file that Segmenter() takes"
        assert f"{rows[provider]['model']}, {provider}, 1 thread" in process.stdout


def test_the_terminal_has_everything(run):
    process, report, _ = run
    for word in (
        "p50",
        "95% interval",
        "cold start",
        "warm-up",
        "peak memory",
        "nodes ran on",
        "Operators of fast",
        "Conv",
    ):
        assert word in process.stdout
    for provider in report["unavailable"]:
        assert provider["install"] in process.stdout
    assert "pumpseg-bench: round 10 of 10" in process.stderr
    assert "Traceback" not in process.stderr


def test_the_json_is_what_the_schema_says(run, run_bench):
    process = run_bench("--json-schema")
    assert process.returncode == 0
    assert json.loads(process.stdout) == json_schema()
    jsonschema.validate(run[1], json_schema())


def test_few_frames_give_no_fps_and_an_earlier_report_is_compared(run, run_bench, photo, tmp_path):
    target = tmp_path / "few.json"
    arguments = ("--providers", "cpu", "--threads", 1, "--source", photo, "--frames", 5, "--json", target)
    process = run_bench(*arguments, "--against", run[2])
    assert process.returncode == 0, process.stderr
    report = json.loads(target.read_text(encoding="utf-8"))
    (row,) = report["rows"]
    (compared,) = [row for row in report["against"]["rows"] if row["row"].endswith("cpu, 1 thread")]
    assert compared["latency"][1] == pytest.approx(row["latency"]["p50"])
    assert compared["ratio"] == pytest.approx(compared["latency"][1] / compared["latency"][0])
    assert "Against bench.json" in process.stdout
    assert row["fps"] is None
    assert row["latency"]["p50"] > 0
    assert "too few for an fps figure" in process.stdout


def test_an_interrupt_prints_what_was_measured(photo, tmp_path):
    target = tmp_path / "part.json"
    arguments = ["--providers", "cpu", "--threads", "1", "--source", str(photo), "--frames", "100000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pumpseg_bench.cli", *arguments, "--json", str(target)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    lines = iter(process.stderr.readline, "")
    assert any("round 1 of 10" in line for line in lines)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "interrupted" in output
    report = json.loads(target.read_text(encoding="utf-8"))
    assert report["interrupted"]
    jsonschema.validate(report, json_schema())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--providers", "tensorrt"], "tensorrt is not in this onnxruntime"),
        (["--providers", "gpu"], "must be all, or some of cpu, cuda"),
        (["--threads", "0"], "must be a whole number from 1 to 1024, got 0"),
        (["--frames", "many"], "must be a whole number of at least 1, got 'many'"),
        (["none.onnx"], "no model none.onnx"),
        (["--source", "none.mp4"], "no such file or folder: none.mp4"),
        (["--json", "none/bench.json"], "cannot write none"),
        (["--against", "none.json"], "cannot read none.json: No such file or directory"),
        (["--against", "none.json", "--json", "none.json"], "none.json is an input: choose another name"),
        (["--json", "bench", "--html", "bench"], "two outputs would be written to bench"),
    ],
)
def test_errors_are_one_line(run_bench, photo, arguments, message):
    process = run_bench("--source", photo, *arguments)
    assert process.returncode == 2
    said = [line for line in process.stderr.splitlines() if "error" in line]
    assert len(said) == 1
    assert message in said[0]
    assert "Traceback" not in process.stderr
    assert process.stdout == ""
