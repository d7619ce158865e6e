"""RoIAlign against the operator of ONNX Runtime that the exported graph uses."""

import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from onnx import TensorProto, helper

from pumpseg_train.model.roi_align import roi_align, roi_levels

CHANNELS = 5


def onnx_roi_align(feature, stride, boxes, pool, ratio):
    """(H, W, C), (R, 4) -> (R, pool, pool, C)."""
    node = helper.make_node(
        "RoiAlign",
        ["feature", "boxes", "images"],
        ["pooled"],
        mode="avg",
        output_height=pool,
        output_width=pool,
        sampling_ratio=ratio,
        spatial_scale=1 / stride,
        coordinate_transformation_mode="half_pixel",
    )
    graph = helper.make_graph(
        [node],
        "roi_align",
        [
            helper.make_tensor_value_info("feature", TensorProto.FLOAT, [1, None, None, None]),
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [None, 4]),
            helper.make_tensor_value_info("images", TensorProto.INT64, [None]),
        ],
        [helper.make_tensor_value_info("pooled", TensorProto.FLOAT, [None, None, pool, pool])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = {
        "feature": np.ascontiguousarray(feature.transpose(2, 0, 1)[None]),
        "boxes": boxes,
        "images": np.zeros(len(boxes), np.int64),
    }
    return session.run(None, inputs)[0].transpose(0, 2, 3, 1)


def random_boxes(rng, count, size):
    """Boxes (count, 4) in and around a picture of `size` (h, w)."""
    limit = np.array([size[1], size[0]])
    first = rng.uniform(-0.05, 0.9, (count, 2)) * limit
    second = first + rng.uniform(0.02, 0.6, (count, 2)) * limit
    return np.concatenate([first, second], 1).astype(np.float32)


@pytest.mark.parametrize("ratio", [1, 2])
@pytest.mark.parametrize("pool", [7, 14])
def test_equals_onnx_runtime_on_every_level(ratio, pool):
    rng = np.random.default_rng(pool + ratio)
    size, strides = (96, 128), (8, 16, 32)
    features = [
        rng.normal(size=(2, size[0] // stride, size[1] // stride, CHANNELS)).astype(np.float32) for stride in strides
    ]
    boxes = random_boxes(rng, 2 * 40, size).reshape(2, 40, 4)
    levels = rng.integers(0, 3, (2, 40)).astype(np.int32)
    pooled = np.array(roi_align(features, strides, boxes, levels, pool, ratio))
    assert pooled.shape == (2, 40, pool, pool, CHANNELS)
    for image in range(2):
        for level, stride in enumerate(strides):
            rows = levels[image] == level
            wanted = onnx_roi_align(features[level][image], stride, boxes[image][rows], pool, ratio)
            assert np.abs(pooled[image][rows] - wanted).max() < 1e-4


@pytest.mark.parametrize("ratio", [1, 2])
def test_equals_onnx_runtime_at_and_beyond_the_border(ratio):
    rng = np.random.default_rng(1)
    stride, side = 8, 80
    feature = rng.normal(size=(side // stride, side // stride, CHANNELS)).astype(np.float32)
    boxes = np.array(
        [
            [0, 0, side, side],  # the whole picture
            [0, 0, 3, 3],  # less than half a cell: all samples left of the first centre
            [side - 3, side - 3, side, side],
            [-7, -7, 20, 20],  # beyond by less than a cell
            [60, 60, side + 7, side + 7],
            [-7, 30, side + 7, 50],
            [-30, -30, 20, 20],  # by far: samples outside count nothing
            [60, 10, side + 40, 30],
            [40, 40, 40, 40],  # empty
        ],
        np.float32,
    )
    levels = np.zeros((1, len(boxes)), np.int32)
    pooled = np.array(roi_align([feature[None]], (stride,), boxes[None], levels, 7, ratio))[0]
    wanted = onnx_roi_align(feature, stride, boxes, 7, ratio)
    assert np.abs(pooled - wanted).max() < 1e-4
    assert np.abs(wanted[6]).min() == 0, "the case is one that lies partly outside"


def test_constant_map_pools_to_the_constant():
    feature = np.full((1, 10, 12, 2), 3.0, np.float32)
    pooled = roi_align([feature], (8,), np.array([[[3, 9, 41, 70]]], np.float32), np.zeros((1, 1), np.int32), 7, 2)
    assert np.allclose(pooled, 3)


def test_gradient_reaches_the_features_of_the_chosen_level_only():
    features = [tf.random.stateless_normal((1, 12 // n, 12 // n, 2), (n, n)) for n in (1, 2)]
    boxes = tf.constant([[[20.0, 20, 60, 60]]])
    with tf.GradientTape() as tape:
        tape.watch(features)
        total = tf.reduce_sum(roi_align(features, (8, 16), boxes, tf.ones((1, 1), tf.int32), 7, 2))
    unused, used = tape.gradient(total, features)
    assert np.abs(unused).max() == 0
    assert np.sum(used) == pytest.approx(7 * 7 * 2, rel=1e-5), "bilinear weights of a cell sum to one"
    assert np.all(np.array(used)[0, 2:3, 2:3] > 0)
    assert np.all(np.array(used)[0, 5] == 0), "far from the box"


@pytest.mark.parametrize(
    ("width", "height", "level"),
    [(95, 96, 0), (96, 96, 1), (48, 192, 1), (191, 192, 1), (192, 192, 2), (96, 384, 2), (1000, 1000, 2), (0, 0, 0)],
)
def test_level_follows_the_area(width, height, level):
    boxes = np.array([[[7, 9, 7 + width, 9 + height]]], np.float32)
    assert np.array(roi_levels(boxes, 192.0, 3)).tolist() == [[level]]
