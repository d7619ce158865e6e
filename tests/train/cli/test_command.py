"""What is missing is named in one line, and outputs are checked before the work."""

import os
import subprocess
import sys

import pytest

from pumpseg.errors import PumpsegError, SinkError
from pumpseg_train.cli.command import check_output, class_names, run_command


def raising(error):
    def action():
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ModuleNotFoundError("No module named 'keras'", name="keras"), 'pip install "pumpseg[train]"'),
        (ModuleNotFoundError("No module named 'onnx'", name="onnx"), 'pip install "pumpseg[export]"'),
        (ModuleNotFoundError("No module named 'jax'", name="jax"), "set KERAS_BACKEND to tensorflow, or pip install"),
        (ValueError("Unable to import backend : theano"), "set KERAS_BACKEND to tensorflow, jax or torch"),
    ],
)
def test_what_is_missing_is_one_line(error, message, capsys):
    assert run_command("pumpseg-data", raising(error)) == 2
    line = capsys.readouterr().err
    assert line.startswith("pumpseg-data: error: ")
    assert line.count("\n") == 1
    assert message in line


def test_other_errors_are_not_hidden():
    with pytest.raises(ValueError, match="a mistake of ours"):
        run_command("pumpseg-data", raising(ValueError("a mistake of ours")))


def test_classes_are_names_or_a_file_of_them(tmp_path):
    assert class_names(["red apple", "pear"]) == ["red apple", "pear"]
    names = tmp_path / "names.txt"
    names.write_text("red apple\n\npear\n", encoding="utf-8-sig")
    assert class_names([str(names)]) == ["red apple", "pear"]
    with pytest.raises(PumpsegError, match=r"cannot read the class names in gone\.txt"):
        class_names(["gone.txt"])


def test_an_output_is_no_input_and_can_be_written(tmp_path):
    path = tmp_path / "a.json"
    check_output(path, [tmp_path / "b.json"])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SinkError, match="is an input"):
        check_output(path, [path])
    with pytest.raises(SinkError, match="cannot write"):
        check_output(tmp_path / "nowhere" / "a.json", [])


def test_a_backend_that_keras_does_not_know_is_one_line():
    program = (
        "import importlib, sys; from pumpseg_train.cli.command import run_command; "
        "sys.exit(run_command('pumpseg-train', lambda: importlib.import_module('keras') and None))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env={**os.environ, "KERAS_BACKEND": "jaxx"}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        2,
        "pumpseg-train: error: Unable to import backend : jaxx: set KERAS_BACKEND to tensorflow, jax or torch\n",
    )
