"""The command pumpseg-watch."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from pumpseg.cli.watch import main
from pumpseg.watch.config import parse_config


def run(capsys, *argv):
    code = main([str(word) for word in argv])
    return (code, *capsys.readouterr())


@pytest.fixture
def config(tmp_path, clip, model_path):
    path = tmp_path / "cameras.toml"
    camera = f'[[camera]]\nname = "gate"\nsource = "{clip}"\n'
    text = f'[model]\nfile = "{model_path}"\n{camera}[health]\naddress = "127.0.0.1:0"\n'
    path.write_text(text, encoding="utf-8")
    return path


def test_example_and_schema_are_printed(capsys, tmp_path):
    code, example, _ = run(capsys, "--example")
    assert code == 0
    assert parse_config(example, tmp_path / "x.toml").camera[0].source == "demo"
    code, schema, _ = run(capsys, "--schema")
    assert json.loads(schema)["title"] == "Config"


def test_check_prints_what_would_run(capsys, config):
    code, out, _ = run(capsys, config, "--check")
    assert code == 0
    assert out.startswith("model bright.onnx on cpu, classes: pumpkin\n1 camera\n  gate: ")
    assert sorted(path.name for path in config.parent.iterdir() if path.suffix != ".onnx") == ["cameras.toml"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("name", "nmae"), r"cameras.toml:3: camera[1].name: is missing"),
        (("bright.onnx", "other.onnx"), "no model "),
    ],
)
def test_errors_are_reported_with_code_2(capsys, config, change, message):
    config.write_text(config.read_text(encoding="utf-8").replace(*change), encoding="utf-8")
    for options in ([], ["--check"]):
        code, _, err = run(capsys, config, *options)
        assert code == 2
        assert message in err
        assert "Traceback" not in err


def test_a_health_check_needs_a_watch_that_runs(capsys, config):
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("127.0.0.1:0", "127.0.0.1:9"), encoding="utf-8")
    code, out, _ = run(capsys, config, "--healthcheck")
    assert (code, out.startswith("no answer (")) == (1, True)
    config.write_text(text.partition("[health]")[0], encoding="utf-8")
    code, _, err = run(capsys, config, "--healthcheck")
    assert (code, "has no [health]" in err) == (2, True)


def test_a_missing_file_and_a_missing_name(capsys, tmp_path):
    assert run(capsys, tmp_path / "x.toml")[::2] == (
        2,
        f"pumpseg-watch: error: cannot read {tmp_path}/x.toml: No such file or directory\n",
    )
    assert "name a configuration; pumpseg-watch --example prints one" in run(capsys)[2]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs POSIX signals")
def test_it_runs_until_it_is_stopped_and_reloads_on_sighup(config):
    process = subprocess.Popen(
        [sys.executable, "-m", "pumpseg.cli.watch", str(config)], stderr=subprocess.PIPE, text=True, env=os.environ
    )
    lines = []
    try:
        for line in process.stderr:
            lines.append(line)
            if "a video played over and over" in line:
                time.sleep(0.3)
                process.send_signal(signal.SIGHUP)
            if "sees frames, after a gap of" in line:
                process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, lines
    finally:
        process.kill()
        process.wait()
    assert any("a new model, opened and checked" in line for line in lines)
    assert lines[-1].endswith("; stopping\n")
