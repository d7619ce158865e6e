"""pumpseg-export: what it prints, and that nothing is left behind when something is wrong."""

import copy
import re
import shutil

import keras
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pumpseg import Segmenter
from pumpseg_export import export
from pumpseg_export.cli import main
from pumpseg_train.training.run import load_run


def one_line(capsys):
    """The one line on stderr, which must not be a traceback."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 1, lines
    assert lines[0].startswith("pumpseg-export: error: ")
    return lines[0]


def exit_code(*arguments):
    """What the command returns; a wrong option ends it."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code


@pytest.fixture(scope="module")
def loaded(tiny_run):
    return load_run(tiny_run)


@pytest.fixture
def assembled(tiny_export, loaded, monkeypatch, step_by_step):
    """Spares the tests the loading and the conversion: both have been done once."""
    monkeypatch.setattr(export, "load_run", lambda run: loaded)
    monkeypatch.setattr(export, "assemble", lambda model, size: tiny_export.graph)


def test_export_prints_how_the_file_compares_and_scores(tiny_export):
    verified, scored, wrote = tiny_export.out.splitlines()
    found = re.match(r"verified: (\d+) of (\d+) detections on 2 photos agree with Keras", verified)
    assert 0 < 0.98 * int(found[2]) <= int(found[1]) <= int(found[2])
    assert re.fullmatch(r"mask AP [\d.]+, AP50 [\d.]+, AP75 [\d.]+", scored)
    assert str(tiny_export.path) in wrote
    assert [path.name for path in tiny_export.path.parent.iterdir()] == ["tiny.onnx"]


def test_half_precision_on_request(tiny_run, tiny_onnx, tmp_path, assembled):
    assert main([str(tiny_run), "-o", str(tmp_path / "half.onnx"), "--float16"]) == 0
    assert (tmp_path / "half.onnx").stat().st_size < 0.56 * tiny_onnx.stat().st_size


def test_a_recommended_threshold_is_what_a_segmenter_uses(tiny_run, tmp_path, assembled):
    assert main([str(tiny_run), "-o", str(tmp_path / "model.onnx"), "--recommended-threshold", "0.62"]) == 0
    assert Segmenter(tmp_path / "model.onnx", provider="cpu").threshold == 0.62


def test_an_older_file_is_replaced(tiny_run, tmp_path, assembled):
    (tmp_path / "model.onnx").write_text("an older one")
    assert main([str(tiny_run), "-o", str(tmp_path / "model.onnx")]) == 0
    assert onnx.load(tmp_path / "model.onnx").graph.output


@pytest.fixture
def tampered(tiny_export, loaded, monkeypatch, step_by_step):
    """Lets the export assemble a graph with other weights."""

    def assemble(model, size):
        graph = copy.deepcopy(tiny_export.graph)
        tensor = max(graph.graph.initializer, key=lambda t: np.prod(t.dims))
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(0.01), tensor.name))
        return graph

    monkeypatch.setattr(export, "load_run", lambda run: loaded)
    monkeypatch.setattr(export, "assemble", assemble)


def test_a_file_that_disagrees_is_not_kept(tiny_run, tmp_path, tampered, capsys):
    target = tmp_path / "model.onnx"
    target.write_text("an older one")
    assert main([str(tiny_run), "-o", str(target)]) == 2
    line = one_line(capsys)
    assert "differ from Keras by more than 0.05 px, score 0.001 or mask 0.001 (2% may): one at " in line
    assert ".png" in line
    assert line.endswith("(--allow-differences writes the file all the same)")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert target.read_text() == "an older one"


def test_a_file_that_disagrees_is_kept_on_request(tiny_export, tiny_run, tmp_path, tampered, capsys):
    assert main([str(tiny_run), "-o", str(tmp_path / "model.onnx"), "--allow-differences"]) == 0
    printed = capsys.readouterr()
    assert "verified" not in printed.out
    assert printed.err.startswith("warning: ")
    assert "differ from Keras" in printed.err
    assert (tmp_path / "model.onnx").is_file()


def test_an_interrupt_leaves_nothing_behind(tiny_run, tmp_path, assembled, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "verify", interrupt)
    assert main([str(tiny_run), "-o", str(tmp_path / "model.onnx")]) == 130
    assert "interrupted, nothing was written" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "100"], "100x100: sides must be multiples of 32"),
        (["--size", "0"], "--size: must be WIDTHxHEIGHT"),
        (["--size", "big"], "--size: must be WIDTHxHEIGHT"),
        (["--size", "64x"], "got '64x'"),
        (["--data", "nowhere"], "nowhere/val/annotations.json does not exist"),
        (["--split", "test"], "test/annotations.json does not exist"),
    ],
)
def test_wrong_options_are_reported_in_one_line(options, message, tiny_run, tmp_path, assembled, capsys):
    assert exit_code(tiny_run, "-o", tmp_path / "model.onnx", *options) == 2
    assert message in one_line(capsys)
    assert not list(tmp_path.iterdir())


def test_a_file_does_not_take_the_place_of_the_one_it_is_made_of(tmp_path, capsys):
    model = tmp_path / "model.onnx"
    model.write_bytes(b"weights")
    assert main([str(model), "--int8", "--calibrate", str(tmp_path), "-o", str(model)]) == 2
    assert "model.onnx is an input" in one_line(capsys)
    assert model.read_bytes() == b"weights"


def test_a_wide_size_is_given_as_width_by_height(tiny_run, tmp_path, monkeypatch):
    sizes = []

    def noted(model, size):
        sizes.append(size)
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "assemble", noted)
    for text in ("128x64", "64"):
        assert main([str(tiny_run), "-o", str(tmp_path / "model.onnx"), "--size", text]) == 130
    assert sizes == [(64, 128), (64, 64)]


def test_a_missing_or_unfinished_run_is_named(tmp_path, tiny_run, capsys):
    target = str(tmp_path / "model.onnx")
    assert main([str(tmp_path / "nowhere"), "-o", target]) == 2
    assert f"no such file or folder: {tmp_path / 'nowhere'}" in one_line(capsys)
    (tmp_path / "begun").mkdir()
    shutil.copy(tiny_run / "settings.toml", tmp_path / "begun")
    assert main([str(tmp_path / "begun"), "-o", target]) == 2
    assert "has no checkpoint yet" in one_line(capsys)


def test_the_folder_of_the_file_is_made(tiny_run, tmp_path, assembled):
    assert main([str(tiny_run), "-o", str(tmp_path / "new" / "folder" / "model.onnx")]) == 0
    assert (tmp_path / "new" / "folder" / "model.onnx").is_file()


def test_a_folder_that_cannot_be_made_is_named(tiny_run, tmp_path, assembled, capsys):
    (tmp_path / "file").touch()
    assert main([str(tiny_run), "-o", str(tmp_path / "file" / "model.onnx")]) == 2
    assert f"cannot make the folder {tmp_path / 'file'}" in one_line(capsys)


def test_another_keras_backend_is_refused(tiny_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    assert main([str(tiny_run), "-o", str(tmp_path / "model.onnx")]) == 2
    assert "export needs Keras on TensorFlow, not torch: set KERAS_BACKEND=tensorflow" in one_line(capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "is already a model file; only --int8 converts one"),
        (["--int8"], "--int8 needs photos like those the model will run on: --calibrate PATH..."),
        (["--calibration-method", "entropy"], "--calibration-method needs --int8"),
        (["--negatives", "nowhere"], "--negatives needs a training run"),
        (["--int8", "--static"], "--static is for GPUs and --int8 for CPUs: choose one"),
        (["--allow-ap-loss"], "--allow-ap-loss needs --int8"),
        (["--int8", "--calibrate", "gone"], "no such file or folder: gone"),
        (["--int8", "--calibrate", ".", "--max-ap-loss", "2"], "--max-ap-loss: must be a number from 0 to 1, got 2"),
        (["--int8", "--calibrate", ".", "--size", "64"], "--size needs a training run or .h5 file"),
        (["--int8", "--calibrate", ".", "--nms", "0.3"], "--nms needs a .h5 file"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message, tiny_onnx, tmp_path, capsys):
    assert exit_code(tiny_onnx, "-o", tmp_path / "x.onnx", *options) == 2
    assert message in one_line(capsys)
    assert not list(tmp_path.iterdir())
