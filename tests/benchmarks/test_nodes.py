import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest

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


def test_int8_operations_count_as_such_in_a_qdq_graph(frames):
    counted = arithmetic(find_model("fast-int8"), frames)
    assert counted.operations > 2e9
    assert 0.9 < counted.int8 / counted.operations < 1


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
