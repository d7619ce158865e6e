"""Boxes and RoIs of the Matterport profile against TensorFlow's own operators, which mrcnn calls."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from pumpseg_train.model import boxes as bx
from pumpseg_train.model.profile import MATTERPORT_RESNET50
from pumpseg_train.model.roi_align import crop_and_resize, pool_pyramid, roi_level_size, roi_levels

SMALL = dataclasses.replace(MATTERPORT_RESNET50, input_size=(128, 128))


def test_anchors_are_those_of_mrcnn():
    # utils.generate_pyramid_anchors of mrcnn, y before x, at 128 pixels
    anchors = bx.anchors(SMALL, (128, 128)) + np.array([0, 0, 1, 1])
    assert anchors.shape == ((32**2 + 16**2 + 8**2 + 4**2 + 2**2) * 3, 4)
    first = [[-11.3137, -22.6274, 11.3137, 22.6274], [-16, -16, 16, 16], [-22.6274, -11.3137, 22.6274, 11.3137]]
    assert np.allclose(anchors[:3], first, atol=1e-3)
    assert np.allclose(anchors[4], [4 - 16, -16, 4 + 16, 16]), "centres begin in the corner, x runs first"
    assert np.allclose(anchors[-2], [64 - 256, 64 - 256, 64 + 256, 64 + 256])


def random_boxes(rng, count, side):
    corners = np.sort(rng.uniform(0, side - 1, (count, 2, 2)), axis=1)
    return np.concatenate([corners[:, 0], corners[:, 1]], axis=1).astype(np.float32)


@pytest.mark.parametrize("pool", [7, 14])
def test_rois_are_pooled_as_tensorflow_does(pool):
    rng = np.random.default_rng(0)
    height, width = 128, 192
    maps = [rng.standard_normal((2, height // s, width // s, 5)).astype(np.float32) for s in (4, 8, 16, 32)]
    boxes = np.stack([random_boxes(rng, 40, 128) for _ in range(2)])
    boxes[:, :, 2:] = np.maximum(boxes[:, :, 2:], boxes[:, :, :2] + 1)
    boxes = np.minimum(boxes, [width - 2, height - 2] * 2).astype(np.float32)
    levels = rng.integers(0, 4, (2, 40)).astype(np.int32)
    found = np.array(crop_and_resize(maps, boxes, levels, pool, (height, width)))
    normalised = boxes[..., [1, 0, 3, 2]] / np.array([height - 1, width - 1] * 2, np.float32)
    for image in range(2):
        for row in range(40):
            feature = maps[levels[image, row]][image : image + 1]
            wanted = tf.image.crop_and_resize(feature, normalised[image, row : row + 1], [0], (pool, pool))[0]
            assert np.allclose(found[image, row], wanted, atol=2e-4)


@given(st.floats(1, 127), st.floats(1, 127))
@settings(max_examples=60, deadline=None)
def test_rois_are_read_from_the_level_that_mrcnn_chooses(width, height):
    boxes = np.array([[[0, 0, width, height]]], np.float32)
    ours = int(np.array(roi_levels(boxes, roi_level_size(SMALL, (128, 128)), 4))[0, 0]) + 2
    exact = np.log2(np.sqrt(width * height / 127**2) / (224 / 128))
    if abs(exact - np.floor(exact) - 0.5) < 1e-4:
        return  # on the edge between two levels
    assert ours == min(5, max(2, 4 + round(exact)))


def test_gradients_reach_the_feature_maps():
    rng = np.random.default_rng(0)
    maps = [tf.Variable(rng.standard_normal((1, 128 // s, 128 // s, 256)), dtype="float32") for s in (4, 8, 16, 32)]
    boxes = tf.constant([[[3.0, 5, 20, 30], [0, 0, 127, 127]]])
    with tf.GradientTape() as tape:
        pooled = tf.reduce_sum(pool_pyramid(maps, boxes, SMALL, 7))
    gradients = tape.gradient(pooled, maps)
    assert [float(tf.reduce_sum(gradient)) for gradient in gradients] == pytest.approx([49 * 256, 49 * 256, 0, 0])


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ((slice(10, 53), slice(0, 64)), [0, 10, 63, 52]),  # 10 above, 11 below
        ((slice(0, 64), slice(7, 57)), [7, 0, 56, 63]),
        ((slice(0, 64), slice(0, 64)), [0, 0, 63, 63]),
        ((slice(0, 0), slice(0, 0)), [0, 0, 63, 63]),  # black
        ((slice(20, 64), slice(0, 64)), [0, 0, 63, 63]),  # a black sky is no border
    ],
)
def test_the_frame_is_found_inside_the_letterbox(content, wanted):
    image = np.zeros((1, 64, 64, 3), np.uint8)
    image[0][content] = 9
    assert np.array(bx.content_window(image, SMALL)).tolist() == [[wanted]]


def test_boxes_of_different_groups_leave_each_other_alone():
    boxes = np.array([[[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 9, 10]]], np.float32)
    valid = np.ones((1, 3), bool)
    assert np.array(bx.non_maximum_suppression(boxes, valid, 0.5)).tolist() == [[True, False, False]]
    groups = np.array([[4, 7, 4]])
    assert np.array(bx.non_maximum_suppression(boxes, valid, 0.5, groups=groups)).tolist() == [[True, True, False]]


def test_nms_is_the_greedy_one_also_along_chains():
    # Each box overlaps its neighbours only: every second one stays.
    boxes = np.array([[[3 * i, 0, 3 * i + 10, 10] for i in range(50)]], np.float32)
    keep = np.array(bx.non_maximum_suppression(boxes, np.ones((1, 50), bool), 0.5, rounds=60))[0]
    wanted = tf.image.non_max_suppression(boxes[0], np.linspace(1, 0.1, 50), 50, 0.5).numpy()
    assert np.flatnonzero(keep).tolist() == sorted(wanted.tolist())
