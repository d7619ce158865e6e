"""int8 files: which attempt is taken, what the file says of itself, and when it is refused."""

import dataclasses

import numpy as np
import pytest

from pumpseg import Segmenter
from pumpseg_export import export, int8, measure
from pumpseg_export.cli import main
from pumpseg_export.quantise import MASK_HEAD, TRUNK
from pumpseg_train.evaluation.metrics import AveragePrecision, Metrics


def calibrated(fruit, *options):
    return ["--int8", "--calibrate", str(fruit / "train" / "images"), *options]


@pytest.fixture(scope="module")
def int8_file(tiny_onnx, fruit, tmp_path_factory):
    """The tiny run's float32 file made int8 by the command, and measured."""
    path = tmp_path_factory.mktemp("int8") / "tiny-int8.onnx"
    options = calibrated(fruit, "--data", str(fruit), "--max-ap-loss", "1", "--float16", "--calibration-photos", "2")
    assert main([str(tiny_onnx), "-o", str(path), *options]) == 0
    return path


def test_a_model_file_is_enough(int8_file, tiny_onnx):
    info, plain = (Segmenter(path, provider="cpu").info for path in (int8_file, tiny_onnx))
    assert info.precision == "int8"
    assert dict(info.quantisation) | {"mask_ap_loss": 0} == {
        "type": "int8",
        "parts": [TRUNK, MASK_HEAD],
        "method": "minmax",
        "photos": 2,
        "mask_ap_loss": 0,
    }
    assert info.metrics["photos"] == plain.metrics["photos"] == 2
    assert dataclasses.replace(info, quantisation={}, metrics=plain.metrics) == plain
    assert int8_file.stat().st_size < 0.4 * tiny_onnx.stat().st_size
    assert [path.name for path in int8_file.parent.iterdir()] == ["tiny-int8.onnx"]


def test_a_frame_in_which_nothing_is_found(int8_file):
    instances = Segmenter(int8_file, provider="cpu", threshold=1.0)(np.zeros((90, 160, 3), np.uint8))
    assert instances.masks.shape == (0, 90, 160)


@pytest.fixture
def scores(monkeypatch):
    """Lets evaluations give these mask APs, one after the other."""

    def pretend(*values):
        results = iter(values)

        def evaluate(dataset, predict):
            figures = AveragePrecision(next(results), *[0.0] * 5)
            return Metrics(figures, figures)

        monkeypatch.setattr(measure, "evaluate", evaluate)

    monkeypatch.setattr(int8, "quantise", lambda graph, part, images, method: graph)
    return pretend


def test_the_mask_head_stays_float32_where_it_costs_too_much(tiny_onnx, fruit, tmp_path, scores, capsys):
    scores(0.5, 0.48, 0.47, 0.485, 0.495)
    target = tmp_path / "x.onnx"
    assert main([str(tiny_onnx), "-o", str(target), *calibrated(fruit, "--data", str(fruit))]) == 0
    assert "int8: trunk, calibrated on 3 photos (percentile)" in capsys.readouterr().out
    quantisation = Segmenter(target, provider="cpu").info.quantisation
    assert quantisation["parts"] == [TRUNK]
    assert quantisation["mask_ap_loss"] == pytest.approx(0.005)


def test_percentiles_are_tried_where_minmax_costs_too_much(tiny_onnx, fruit, tmp_path, scores, capsys):
    scores(0.5, 0.48, 0.495)
    target = tmp_path / "x.onnx"
    command = [str(tiny_onnx), "-o", str(target), *calibrated(fruit, "--data", str(fruit))]
    assert main(command) == 0
    assert "int8: trunk and mask_head, calibrated on 3 photos (percentile)" in capsys.readouterr().out
    quantisation = Segmenter(target, provider="cpu").info.quantisation
    assert (quantisation["parts"], quantisation["method"]) == ([TRUNK, MASK_HEAD], "percentile")
    scores(0.5, 0.48, 0.495)
    assert main([*command, "--calibration-method", "minmax"]) == 0
    assert "int8: trunk, calibrated on 3 photos (minmax)" in capsys.readouterr().out


def test_a_file_that_loses_too_much_is_refused_unless_allowed(tiny_onnx, fruit, tmp_path, scores, capsys):
    target = tmp_path / "x.onnx"
    command = [str(tiny_onnx), "-o", str(target), *calibrated(fruit, "--data", str(fruit))]
    scores(0.5, 0.4, 0.45, 0.42, 0.41)
    assert main(command) == 2
    assert "int8 loses 0.050 mask AP, more than 0.01" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    scores(0.5, 0.4, 0.45, 0.42, 0.41)
    assert main([*command, "--allow-ap-loss"]) == 0
    assert "warning: int8 loses 0.050 mask AP" in capsys.readouterr().err
    quantisation = Segmenter(target, provider="cpu").info.quantisation
    assert (quantisation["parts"], quantisation["method"]) == ([TRUNK, MASK_HEAD], "percentile"), "what loses least"
    scores(0.5, 0.4)
    assert main([*command, "--max-ap-loss", "0.2"]) == 0


def test_without_a_data_set_nothing_is_measured(tiny_onnx, fruit, tmp_path, scores, capsys):
    scores()
    assert main([str(tiny_onnx), "-o", str(tmp_path / "x.onnx"), *calibrated(fruit)]) == 0
    assert "its AP was not measured: name a data set with --data" in capsys.readouterr().out
    assert Segmenter(tmp_path / "x.onnx", provider="cpu").info.metrics == {}


def test_a_run_is_verified_in_float32_first(tiny_run, tiny_export, fruit, tmp_path, scores, monkeypatch, capsys):
    monkeypatch.setattr(export, "assemble", lambda model, size: tiny_export.graph)
    scores(0.5, 0.5, 0.5)
    assert main([str(tiny_run), "-o", str(tmp_path / "x.onnx"), *calibrated(fruit)]) == 0
    printed = capsys.readouterr().out
    assert printed.index("agree with Keras") < printed.index("mask AP 0.500 in float32, 0.500 in int8")
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]


def test_int8_of_int8_is_refused(int8_file, fruit, tmp_path, capsys):
    assert main([str(int8_file), "-o", str(tmp_path / "x.onnx"), *calibrated(fruit)]) == 2
    assert "is int8 already: name the float32 file" in capsys.readouterr().err
