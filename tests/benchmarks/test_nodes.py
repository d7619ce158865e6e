import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from pumpseg.errors import ModelFileError
from pumpseg.inference.model import Model
from pumpseg.inference.model_file import find_model
from pumpseg_bench.nodes import arithmetic, operations, prepared, profile_nodes


@pytest.mark.parametrize(
    ("operator", "inputs", "outputs", "wanted"),
    [
        ("Conv", [[1, 3, 8, 8], [16, 3, 3, 3], [16]], [[1, 16, 8, 8]], 2 * 16 * 64 * 27),
        ("Conv", [[1, 32, 8, 8], [32, 1, 3, 3]], [[1, 32, 4, 4]], 2 * 32 * 16 * 9),
        ("QLinearConv", [[1, 3, 8, 8], [], [], [16, 3, 1, 1], [16], [16], [], []], [[1, 16, 8, 8]], 2 * 16 * 64 * 3),
        ("ConvTranspose", [[5, 64, 14, 14], [64, 64, 2, 2], [64]], [[5, 64, 28, 28]], 2 * 5 * 64 * 196 * 64 * 4),
        ("MatMul", [[2, 7, 5], [5, 3]], [[2, 7, 3]], 2 * 2 * 7 * 5 * 3),
        ("Gemm", [[5, 7], [5, 3], [3]], [[7, 3]], 2 * 7 * 5 * 3),
        ("MatMul", [[0, 5], [5, 3]], [[0, 3]], 0),
        ("Add", [[2, 2], [2, 2]], [[2, 2]], 0),
        ("Relu", [[2, 2]], [[2, 2]], 0),
    ],
)
def test_operations(operator, inputs, outputs, wanted):
    assert operations(operator, inputs, outputs) == wanted


def test_the_arithmetic_of_the_shipped_model_is_at_least_that_of_its_trunk(frames):
    graph = onnx.shape_inference.infer_shapes(onnx.load(find_model())).graph
    shapes = {value.name: [side.dim_value for side in value.type.tensor_type.shape.dim] for value in graph.value_info}
    weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    # Weights may be stored in half precision and cast.
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in weights:
            weights[node.output[0]] = weights[node.input[0]]
    trunk = 0
    for node in graph.node:
        shape = shapes.get(node.output[0], [])
        if node.op_type == "Conv" and len(shape) == 4 and shape[0] == 1:
            trunk += 2 * math.prod(shape) * math.prod(weights[node.input[1]][1:])
    counted = arithmetic(find_model(), frames)
    assert trunk > 2e9
    assert trunk < counted.operations < 2 * trunk
    assert counted.int8 == 0


@pytest.fixture(scope="module")
def of_qdq(frames):
    return arithmetic(find_model("fast-int8"), frames)


def test_int8_operations_count_as_such_in_a_qdq_graph(of_qdq):
    assert of_qdq.operations > 2e9
    assert 0.9 < of_qdq.int8 / of_qdq.operations < 1


@pytest.fixture(scope="module")
def qlinear(tmp_path_factory):
    """fast-int8 with QLinearConv instead of QDQ, as ONNX Runtime fuses it; its own other operators are taken apart."""
    path = tmp_path_factory.mktemp("qlinear") / "qlinear.onnx"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath, options.log_severity_level = str(path), 4
    onnxruntime.InferenceSession(str(find_model("fast-int8")), options, providers=["CPUExecutionProvider"])
    model = onnx.load(path)
    nodes = [part for node in model.graph.node for part in of_onnx_itself(node)]
    del model.graph.node[:], model.opset_import[:]
    model.graph.node.extend(nodes)
    model.opset_import.append(helper.make_opsetid("", 17))
    onnx.save(model, path)
    return path


def of_onnx_itself(node):
    """The node in operators of ONNX itself."""
    if node.domain == "":
        return [node]
    (output,) = node.output
    if node.op_type in ("QLinearAdd", "QLinearConcat"):
        quantised = node.input if node.op_type == "QLinearAdd" else [*node.input[2:], *node.input[:2]]
        *operands, scale, zero = quantised
        triples = [operands[i : i + 3] for i in range(0, len(operands), 3)]
        parts = [helper.make_node("DequantizeLinear", one, [f"{output}_{i}"]) for i, one in enumerate(triples)]
        axis = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        inputs = [part.output[0] for part in parts]
        parts.append(helper.make_node(node.op_type.removeprefix("QLinear"), inputs, [f"{output}_float"], **axis))
        return [*parts, helper.make_node("QuantizeLinear", [f"{output}_float", scale, zero], [output])]
    # A convolution or product with its activation.
    activation = next(attribute.s.decode() for attribute in node.attribute if attribute.name == "activation")
    plain = onnx.NodeProto()
    plain.CopyFrom(node)
    plain.op_type, plain.domain, plain.output[0] = node.op_type.removeprefix("Fused"), "", f"{output}_linear"
    kept = [attribute for attribute in plain.attribute if attribute.name != "activation"]
    del plain.attribute[:]
    plain.attribute.extend(kept)
    return [plain, helper.make_node(activation, [f"{output}_linear"], [output])]


def test_int8_operations_count_as_such_in_a_qlinear_graph(frames, qlinear, of_qdq):
    assert Counter(node.op_type for node in onnx.load(qlinear).graph.node)["QLinearConv"] > 50
    counted = arithmetic(qlinear, frames)
    assert counted.int8 == pytest.approx(of_qdq.int8, rel=0.01)
    # Rounded differently, some more or fewer proposals reach the heads.
    assert counted.operations == pytest.approx(of_qdq.operations, rel=0.05)


def test_a_hostile_file_is_refused(frames, tmp_path):
    model = onnx.load(find_model())
    model.graph.initializer[0].external_data.add(key="location", value="weights.bin")
    path = tmp_path / "hostile.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match="keeps data outside of itself"):
        arithmetic(path, frames)


def test_nodes_of_the_cpu_and_of_openvino(frames, setup):
    on_cpu = profile_nodes(Path(setup.model), "cpu", 1, frames)
    assert set(on_cpu.providers) == {"cpu"}
    assert on_cpu.providers["cpu"] > 100
    assert next(iter(on_cpu.operators)) == "Conv"
    assert list(on_cpu.operators.values()) == sorted(on_cpu.operators.values(), reverse=True)
    pytest.importorskip("openvino")
    on_openvino = profile_nodes(Path(setup.model), "openvino", 1, frames)
    assert set(on_openvino.providers) == {"openvino"}
    assert on_openvino.providers["openvino"] > 50
    assert on_openvino.operators["Convolution"] > 0


def test_frames_lie_where_the_model_wants_them(frames, tmp_path):
    graph = onnx.load(find_model())
    (entry,) = graph.metadata_props
    letterbox = {"placement": "centred", "fill": [0, 0, 0], "min_side": 0, "min_scale": 0.0}
    entry.value = json.dumps(json.loads(entry.value) | {"letterbox": letterbox})
    onnx.save(graph, tmp_path / "centred.onnx")
    image = next(prepared(Model.open(tmp_path / "centred.onnx", "cpu"), frames))
    # 640x480 becomes 384x288, with 48 lines above and below.
    assert np.flatnonzero(image[0].any(axis=(1, 2))).tolist() == list(range(48, 336))
