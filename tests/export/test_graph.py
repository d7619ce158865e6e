"""The graph writer."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pumpseg_export.graph import IR_VERSION, OPSET, GraphWriter


def finish(graph, output, shape):
    vector = helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])
    return graph.model("test", [vector], {"y": (output, helper.make_tensor_value_info("y", TensorProto.FLOAT, shape))})


def test_nodes_and_constants_make_a_model(run_graph):
    graph = GraphWriter()
    low, high = graph.ops("Split", 2, graph.op("Mul", "x", graph.constant([1, 10, 100])), graph.ints(1, 2), axis=0)
    model = finish(graph, graph.op("Concat", high, low, axis=0), [3])
    assert (model.ir_version, model.opset_import[0].version) == (IR_VERSION, OPSET) == (8, 17)
    assert run_graph(model, np.array([1, 2, 3], np.float32))["y"].tolist() == [20, 300, 1]


def doubler():
    graph = GraphWriter()
    return finish(graph, graph.op("Add", "x", "x"), [3])


def test_a_model_can_be_put_inside_twice(run_graph):
    graph = GraphWriter()
    once = graph.inline(doubler(), "first", "x")
    twice = graph.inline(doubler(), "second", once["y"])
    model = finish(graph, twice["y"], [3])
    assert run_graph(model, np.array([1, 2, 3], np.float32))["y"].tolist() == [4, 8, 12]
    names = [node.name for node in model.graph.node]
    assert len(names) == len(set(names))
    assert not any(name in once["y"] for name in ("x",)), "names inside get a prefix"


def test_what_is_put_inside_twice_keeps_its_weights_once(run_graph):
    inner = GraphWriter()
    tripler = finish(inner, inner.op("Mul", "x", inner.constant([3, 3, 3])), [3])
    graph = GraphWriter()
    once = graph.inline(tripler, "first", "x")
    model = finish(graph, graph.inline(tripler, "second", once["y"])["y"], [3])
    assert run_graph(model, np.array([1, 2, 3], np.float32))["y"].tolist() == [9, 18, 27]
    assert len(model.graph.initializer) == 1


def test_inlining_needs_all_inputs():
    with pytest.raises(ValueError, match="zip"):
        GraphWriter().inline(doubler(), "first")


def test_an_invalid_graph_is_refused():
    graph = GraphWriter()
    with pytest.raises(onnx.checker.ValidationError):
        finish(graph, graph.op("Add", "x", "nowhere"), [3])
