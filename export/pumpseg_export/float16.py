"""Weights stored in half precision: half the file, the same speed, since runtimes fold the casts when loading."""

import copy

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_MIN_ELEMENTS = 256  # smaller constants save nothing, and shapes of boxes should stay exact
_EXACT = ("Gather", "QuantizeLinear", "DequantizeLinear")  # anchors, and scales of int8


def store_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model whose float32 weights are stored as float16, each followed by a Cast back."""
    result = copy.deepcopy(model)
    casts = []
    exact = {name for node in model.graph.node if node.op_type in _EXACT for name in node.input}
    for tensor in result.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or tensor.name in exact:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < _MIN_ELEMENTS or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}/half"))
        casts.append(helper.make_node("Cast", [f"{name}/half"], [name], f"{name}/cast", to=TensorProto.FLOAT))
    _replace_nodes(result, [*casts, *result.graph.node])
    onnx.checker.check_model(result, full_check=True)
    return result


def restore_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model with `store_float16` undone: its weights are float32 again, and the casts are gone."""
    result = copy.deepcopy(model)
    halves = {tensor.name: tensor for tensor in result.graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    nodes = []
    for node in result.graph.node:
        if node.op_type == "Cast" and node.input[0] in halves:
            tensor = halves[node.input[0]]
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, node.output[0]))
        else:
            nodes.append(node)
    _replace_nodes(result, nodes)
    return result


def _replace_nodes(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    del model.graph.node[:]
    model.graph.node.extend(nodes)
