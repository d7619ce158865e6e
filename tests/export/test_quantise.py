"""Quantising one part of a graph: what becomes int8, and that it detects what float32 detects."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from pumpseg.errors import PumpsegError
from pumpseg.inference.providers import open_session
from pumpseg_export import cli
from pumpseg_export.assemble import with_score_threshold
from pumpseg_export.quantise import MASK_HEAD, METHODS, TRUNK, quantise


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


def test_frames_that_show_nothing_cannot_calibrate_masks(wide_graph):
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


def test_the_command_offers_every_method():
    assert set(cli.CALIBRATION_METHODS) == set(METHODS)
