"""Weights in half precision: how much smaller the file is, and that it can be undone."""

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from pumpseg_export.float16 import restore_float32, store_float16
from pumpseg_export.verify import FLOAT16_WEIGHTS, compare


def test_float16_weights_halve_the_file_and_still_agree(wide_graph, wide_image, run_graph):
    half = store_float16(wide_graph)
    assert len(half.SerializeToString()) < 0.56 * len(wide_graph.SerializeToString())
    exact, rounded = run_graph(wide_graph, wide_image), run_graph(half, wide_image)
    assert {name: array.dtype for name, array in rounded.items()} == {
        name: array.dtype for name, array in exact.items()
    }
    agree = [difference.within(FLOAT16_WEIGHTS) for difference in compare(exact, rounded, 0.1)]
    assert np.mean(agree) > 0.9, "so loud heads, and so many overlapping boxes, turn roundings into other choices"
    names = {tensor.name for tensor in half.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16}
    assert len(names) > 50
    anchors = [t for t in half.graph.initializer if list(t.dims)[1:] == [4] and t.data_type == onnx.TensorProto.FLOAT]
    assert anchors, "anchors stay exact"


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
