"""int8 files: what in them is int8, that they find what float32 finds, and when they are refused."""

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from pumpseg import Segmenter
from pumpseg.errors import PumpsegError
from pumpseg.inference.providers import open_session
from pumpseg_export import cli, int8
from pumpseg_export.cli import main
from pumpseg_export.float16 import restore_float32, store_float16
from pumpseg_export.quantise import MASK_HEAD, METHODS, TRUNK, quantise
from pumpseg_train.evaluation.metrics import AveragePrecision, Metrics


@pytest.fixture(scope="module")
def pictures():
    """Model inputs of 128x64, uint8, with blocks of colour in them."""
    rng = np.random.default_rng(4)
    return [rng.integers(0, 256, (1, 8, 16, 3)).astype(np.uint8).repeat(8, 1).repeat(8, 2) for _ in range(3)]


@pytest.fixture(scope="module")
def wide_int8(wide_graph, pictures):
    return quantise(quantise(wide_graph, TRUNK, pictures, "minmax"), MASK_HEAD, pictures, "minmax")


def test_only_the_trunk_and_the_mask_head_become_int8(wide_int8):
    assert {opset.domain for opset in wide_int8.opset_import} == {""}
    weights = {tensor.name: tensor for tensor in wide_int8.graph.initializer}
    made_by = {name: node for node in wide_int8.graph.node for name in node.output}
    convolutions = [
        node for node in wide_int8.graph.node if node.op_type == "Conv" and not node.name.startswith("box_head")
    ]
    assert len(convolutions) > 50
    for node in convolutions:
        scales = weights[made_by[node.input[1]].input[1]]
        kernel = weights[made_by[node.input[1]].input[0]]
        assert kernel.data_type == TensorProto.INT8
        assert list(scales.dims) == [kernel.dims[0]], "a scale for every output channel"
        image = made_by[node.input[0]]
        assert weights[image.input[2]].data_type == TensorProto.UINT8
    kinds = {node.op_type for node in wide_int8.graph.node if node.name.startswith("box_head")}
    assert "MatMul" in kinds
    assert not kinds & {"QuantizeLinear", "DequantizeLinear"}
    assert not {
        name for name in weights if name.startswith("box_head/") and weights[name].data_type == TensorProto.INT8
    }


def test_the_trunk_reads_the_bytes_of_the_image(wide_int8):
    made_by = {name: node for node in wide_int8.graph.node for name in node.output}
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in wide_int8.graph.initializer}
    stem = next(node for node in wide_int8.graph.node if node.op_type == "Conv")
    image = made_by[stem.input[0]]
    assert (image.op_type, made_by[image.input[0]].op_type) == ("DequantizeLinear", "Transpose")
    assert made_by[image.input[0]].input[0] == "image"
    assert (weights[image.input[1]], weights[image.input[2]]) == (1 / 128, 127)


def test_int8_finds_what_float32_finds(wide_graph, wide_int8, pictures, tmp_path):
    names = ("boxes", "scores", "masks")
    sessions = []
    for number, graph in enumerate((wide_graph, wide_int8)):
        onnx.save(graph, tmp_path / f"{number}.onnx")
        sessions.append(open_session(tmp_path / f"{number}.onnx", "cpu", threads=1))
    near, differences = [], []
    for image in pictures:
        plain, small = (dict(zip(names, s.run(names, {"image": image}), strict=True)) for s in sessions)
        best = plain["scores"] > 0.3
        distances = np.abs(plain["boxes"][best][:, None] - small["boxes"][None]).max(axis=-1)
        near += list(distances.min(axis=1) < 4)
        masks = np.abs(plain["masks"][best] - small["masks"][distances.argmin(axis=1)])
        differences += list(masks.mean(axis=(1, 2)))
    assert len(near) > 20
    assert np.mean(near) > 0.7
    # Logits of random weights are loud: a mask head that answers 0.5 everywhere is off by 0.3.
    assert np.median(differences) < 0.15


def test_half_precision_is_undone_exactly(wide_graph):
    half = store_float16(wide_graph)
    restored = restore_float32(half)
    assert not any(tensor.data_type == TensorProto.FLOAT16 for tensor in restored.graph.initializer)
    assert len(restored.graph.node) == len(wide_graph.graph.node)
    given = {tensor.name: numpy_helper.to_array(tensor) for tensor in wide_graph.graph.initializer}
    for tensor in restored.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            np.testing.assert_allclose(values, given[tensor.name], rtol=1e-3, atol=1e-6)


def test_scales_stay_exact_in_half_precision(wide_int8):
    half = store_float16(wide_int8)
    scales = {name for node in wide_int8.graph.node if "Linear" in node.op_type for name in node.input}
    kept = {tensor.name: tensor for tensor in half.graph.initializer}
    assert all(kept[t.name].data_type == t.data_type for t in wide_int8.graph.initializer if t.name in scales)


def test_frames_that_show_nothing_cannot_calibrate_masks(wide_graph):
    from pumpseg_export.assemble import with_score_threshold

    blind = with_score_threshold(wide_graph, 2.0)
    with pytest.raises(PumpsegError, match="nothing is detected in 1 calibration photos"):
        quantise(blind, MASK_HEAD, [np.zeros((1, 64, 128, 3), np.uint8)], "minmax")


def test_a_graph_without_parts_is_told(make_foreign):
    with pytest.raises(PumpsegError, match="no part 'trunk'"):
        quantise(make_foreign, TRUNK, [], "minmax")


@pytest.fixture
def make_foreign():
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["image"], ["y"])], "g", [value("image", 1, [1])], [value("y", 1, [1])]
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])


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

        monkeypatch.setattr(int8, "evaluate", evaluate)

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
    from pumpseg_export import export

    monkeypatch.setattr(export, "assemble", lambda model, size: tiny_export.graph)
    scores(0.5, 0.5)
    assert main([str(tiny_run), "-o", str(tmp_path / "x.onnx"), *calibrated(fruit)]) == 0
    printed = capsys.readouterr().out
    assert printed.index("agree with Keras") < printed.index("mask AP 0.500 in float32, 0.500 in int8")
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]


def test_int8_of_int8_is_refused(int8_file, fruit, tmp_path, capsys):
    assert main([str(int8_file), "-o", str(tmp_path / "x.onnx"), *calibrated(fruit)]) == 2
    assert "is int8 already: name the float32 file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "is a model file already; only --int8 makes another of it"),
        (["--int8"], "--int8 needs photos like those to come: --calibrate PATH..."),
        (["--calibration-method", "entropy"], "--calibration-method goes with --int8"),
        (["--allow-ap-loss"], "--allow-ap-loss goes with --int8"),
        (["--int8", "--calibrate", "gone"], "no such file or folder: gone"),
        (["--int8", "--calibrate", ".", "--max-ap-loss", "2"], "--max-ap-loss must lie in 0..1, not 2.0"),
        (["--int8", "--calibrate", ".", "--size", "64"], "--size goes with a training run or .h5 file"),
        (["--int8", "--calibrate", ".", "--nms", "0.3"], "--nms goes with a .h5 file"),
    ],
)
def test_options_that_do_not_fit_are_told(options, message, tiny_onnx, tmp_path, capsys):
    assert main([str(tiny_onnx), "-o", str(tmp_path / "x.onnx"), *options]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert not list(tmp_path.iterdir())


def test_the_command_offers_every_method():
    assert set(cli.CALIBRATION_METHODS) == set(METHODS)


def test_percentiles_cut_outliers(wide_graph, pictures):
    cut, widest = (quantise(wide_graph, MASK_HEAD, pictures[:1], name) for name in ("percentile", "minmax"))
    scales = [
        {name: numpy_helper.to_array(tensor).item() for name, tensor in _scalars(model).items()}
        for model in (cut, widest)
    ]
    assert any(scales[0][name] < 0.99 * scales[1][name] for name in scales[0])


def _scalars(model):
    """Scales of activations."""
    return {t.name: t for t in model.graph.initializer if t.name.endswith("_scale") and not t.dims}
