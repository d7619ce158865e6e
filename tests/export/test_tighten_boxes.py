"""Boxes around masks: the graph's are those of Keras."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from pumpseg_export.graph import GraphWriter
from pumpseg_export.tighten_boxes import tighten_to_masks
from pumpseg_train.model import tighten_boxes

SIDE = 12


@pytest.fixture(scope="module")
def session():
    graph = GraphWriter()
    boxes, masks = tighten_to_masks(graph, "masks", "seen", "boxes", SIDE)
    model = graph.model(
        "tighten_to_masks",
        [
            helper.make_tensor_value_info("masks", onnx.TensorProto.FLOAT, ["N", SIDE, SIDE]),
            helper.make_tensor_value_info("seen", onnx.TensorProto.FLOAT, ["N", 4]),
            helper.make_tensor_value_info("boxes", onnx.TensorProto.FLOAT, ["N", 4]),
        ],
        {
            "closed": (boxes, helper.make_tensor_value_info("closed", onnx.TensorProto.FLOAT, ["N", 4])),
            "inside": (masks, helper.make_tensor_value_info("inside", onnx.TensorProto.FLOAT, ["N", SIDE, SIDE])),
        },
    )
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def example(seed, count):
    rng = np.random.default_rng(seed)
    masks = rng.random((count, SIDE, SIDE), np.float32) ** rng.uniform(0.2, 40)
    low = rng.uniform(-20, 300, (count, 2))
    seen = np.concatenate([low, low + rng.uniform(1, 300, (count, 2))], axis=1).astype(np.float32)
    return masks, seen, (seen + rng.normal(0, 3, seen.shape)).astype(np.float32)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_the_graph_closes_boxes_as_keras_does(session, seed, count):
    masks, seen, boxes = example(seed, count)
    closed, inside = session.run(None, {"masks": masks, "seen": seen, "boxes": boxes})
    wanted_boxes, wanted_masks = tighten_boxes.tighten_to_masks(masks, seen, boxes)
    np.testing.assert_allclose(closed, np.array(wanted_boxes), atol=1e-3)
    np.testing.assert_allclose(inside, np.array(wanted_masks), atol=1e-4)


def test_no_masks_give_no_boxes(session):
    masks, seen, boxes = example(0, 0)
    closed, inside = session.run(None, {"masks": masks, "seen": seen, "boxes": boxes})
    assert closed.shape == (0, 4)
    assert inside.shape == (0, SIDE, SIDE)
