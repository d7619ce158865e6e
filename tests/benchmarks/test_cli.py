import html.parser
import json
import re
import shutil
import signal
import subprocess
import sys

import jsonschema
import pytest

from pumpseg_bench.report import SCHEMA


@pytest.fixture(scope="module")
def run(run_bench, photo, tmp_path_factory):
    """The command's real rows on the CPU and, where it is installed, OpenVINO: process, JSON and page."""
    folder = tmp_path_factory.mktemp("bench")
    page, values = folder / "bench.html", folder / "bench.json"
    arguments = ("--source", photo, "--frames", 30, "--threads", 1, "--profile", "--json", values, "--html", page)
    process = run_bench(*arguments)
    assert process.returncode == 0, process.stderr
    return process, json.loads(values.read_text(encoding="utf-8")), page


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
        assert rows[provider]["agreement"]["mask_iou"] > 0.99
        assert f"fast, {provider}, 1 thread" in process.stdout


def test_the_terminal_tells_everything(run):
    process, report, _ = run
    for word in (
        "p50",
        "95% interval",
        "cold start",
        "warm-up",
        "peak memory",
        "nodes ran on",
        "operators of fast",
        "Conv",
    ):
        assert word in process.stdout
    for absent in report["absent"]:
        assert absent["install"] in process.stdout
    assert "pumpseg-bench: round 10 of 10" in process.stderr
    assert "Traceback" not in process.stderr


def test_the_json_is_what_the_schema_says(run):
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(run[1], schema)


def test_the_page_needs_nothing_else(run):
    text = run[2].read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)""", text)
    assert "<script" not in text
    assert text.count('src="data:image/svg+xml;base64,') == 3
    open_tags = []

    class Checker(html.parser.HTMLParser):
        def handle_starttag(self, tag, attributes):
            if tag not in ("meta", "img", "br"):
                open_tags.append(tag)

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

    Checker().feed(text)
    assert open_tags == []


def test_the_page_renders_in_a_browser(run, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here")
    picture = tmp_path / "page.png"
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--window-size=1000,1600"]
    command = [browser, *options, f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={picture}", run[2].as_uri()]
    process = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=180, check=False)
    assert "CONSOLE" not in process.stderr
    assert picture.stat().st_size > 20_000


def test_few_frames_give_no_fps(run_bench, photo, tmp_path):
    target = tmp_path / "few.json"
    process = run_bench("--providers", "cpu", "--threads", 1, "--source", photo, "--frames", 5, "--json", target)
    assert process.returncode == 0
    (row,) = json.loads(target.read_text(encoding="utf-8"))["rows"]
    assert row["fps"] is None
    assert row["latency"]["p50"] > 0
    assert "too few to speak of fps" in process.stdout


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
    jsonschema.validate(report, json.loads(SCHEMA.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--providers", "directml"], "directml is not in this onnxruntime"),
        (["--providers", "gpu"], "'gpu' is no provider; there are all, cpu"),
        (["--threads", "0"], "must be a whole number from 1 to 1024, got 0"),
        (["--frames", "many"], "must be a whole number of at least 1, got 'many'"),
        (["none.onnx"], "no model none.onnx"),
        (["--source", "none.mp4"], "no such file or folder: none.mp4"),
        (["--json", "none/bench.json"], "cannot write none"),
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
