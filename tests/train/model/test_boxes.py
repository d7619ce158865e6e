"""Box arithmetic against plain scalar references."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pumpseg_train.model import boxes as bx
from pumpseg_train.model.profile import EDGE

quick = settings(deadline=None, max_examples=40)
sides = st.integers(4, 100)
places = st.integers(0, 100)


@st.composite
def box_arrays(draw, least=1, most=8):
    rows = draw(st.lists(st.tuples(places, places, sides, sides), min_size=least, max_size=most))
    return np.array([(x, y, x + w, y + h) for x, y, w, h in rows], np.float32)


def scalar_iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def greedy_nms(boxes, threshold):
    kept = []
    for index, box in enumerate(boxes):
        if all(np.float32(scalar_iou(boxes[other], box)) <= np.float32(threshold) for other in kept):
            kept.append(index)
    return kept


@quick
@given(box_arrays(most=6), box_arrays(most=6))
def test_iou_equals_the_scalar_formula(a, b):
    wanted = [[scalar_iou(one, other) for other in b] for one in a]
    assert np.allclose(bx.iou(a, b), wanted, atol=1e-6)


def test_iou_and_intersection_of_known_boxes():
    a = np.array([[0, 0, 10, 10]], np.float32)
    b = np.array([[5, 0, 15, 10], [10, 0, 20, 10], [2, 2, 4, 4]], np.float32)
    assert np.allclose(bx.intersection(a, b), [[50, 0, 4]])
    assert np.allclose(bx.iou(a, b), [[1 / 3, 0, 0.04]])
    assert np.allclose(bx.iou(a[None], b[None]), [[[1 / 3, 0, 0.04]]]), "with leading axes"


def test_area_of_an_inverted_box_is_zero():
    assert np.allclose(bx.area(np.array([[0, 0, 3, 4], [5, 5, 2, 9], [1, 1, 1, 9]], np.float32)), [12, 0, 0])


@quick
@given(box_arrays(least=6, most=6), box_arrays(least=6, most=6))
def test_encode_and_decode_are_inverse(boxes, references):
    deltas = bx.encode(boxes, references)
    assert np.allclose(bx.decode(deltas, references), boxes, atol=2e-3)


def test_encode_of_a_known_pair():
    deltas = bx.encode(np.array([[10, 0, 30, 10]], np.float32), np.array([[0, 0, 10, 10]], np.float32))
    assert np.allclose(deltas, [[1.5, 0, np.log(2), 0]], atol=1e-6)


def test_decode_caps_the_size():
    box = np.array(bx.decode(np.array([[0, 0, 99.0, 0]], np.float32), np.array([[0, 0, 16, 16]], np.float32)))
    assert box[0, 2] - box[0, 0] == pytest.approx(1000, rel=1e-4)


@quick
@given(box_arrays(least=5, most=5), box_arrays(least=5, most=5))
def test_generalized_iou_is_bounded_by_iou_and_minus_one(a, b):
    values = np.array(bx.generalized_iou(a, b))
    overlap = np.array([scalar_iou(*pair) for pair in zip(a, b, strict=True)])
    assert (values > -1).all()
    assert (values <= overlap + 1e-6).all()
    assert np.allclose(values, bx.generalized_iou(b, a), atol=1e-6)
    assert np.allclose(bx.generalized_iou(a, a), 1)


def test_generalized_iou_of_known_boxes():
    a = np.array([[0, 0, 10, 10]] * 3, np.float32)
    b = np.array([[2, 2, 4, 4], [10, 0, 20, 10], [20, 0, 30, 10]], np.float32)
    # Inside: the plain overlap. Side by side: nothing wasted. Apart: a third of the hull is wasted.
    assert np.allclose(bx.generalized_iou(a, b), [0.04, 0, -1 / 3], atol=1e-6)


def test_clip_cuts_to_height_and_width():
    boxes = np.array([[-5, -5, 200, 200], [10, 20, 30, 40]], np.float32)
    assert np.allclose(bx.clip(boxes, np.array([0, 0, 100, 50])), [[0, 0, 100, 50], [10, 20, 30, 40]])


def test_anchors_count_order_and_centres():
    profile = dataclasses.replace(EDGE, input_size=(64, 96))
    anchors = bx.anchors(profile, (64, 96))
    per_cell = profile.anchors_per_cell
    cells = [(64 // stride, 96 // stride) for stride in profile.strides]
    assert anchors.dtype == np.float32
    assert anchors.shape == (sum(h * w for h, w in cells) * per_cell, 4)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    width, height = (anchors[:, 2:] - anchors[:, :2]).T

    assert np.allclose(centres[:per_cell], 4), "the first cell of the finest level"
    assert np.allclose(centres[per_cell : 2 * per_cell], (12, 4)), "then to the right"
    assert np.allclose(centres[12 * per_cell], (4, 12)), "then down"
    second_level = 8 * 12 * per_cell
    assert np.allclose(centres[second_level], 8)
    assert np.allclose(centres[-1], (96 - 16, 64 - 16)), "the last cell of the coarsest level"

    shapes = [(size, ratio) for size in profile.anchor_sizes[0] for ratio in profile.anchor_ratios]
    assert np.allclose((width * height)[:per_cell], [size**2 for size, _ in shapes], rtol=1e-4)
    assert np.allclose((height / width)[:per_cell], [ratio for _, ratio in shapes], rtol=1e-4)
    assert np.sqrt(width * height)[second_level] == pytest.approx(profile.anchor_sizes[1][0], rel=1e-4)


@settings(deadline=None, max_examples=60)
@given(box_arrays(most=12), st.sampled_from([0.3, 0.5, 0.7]))
def test_nms_keeps_what_a_greedy_loop_keeps(boxes, threshold):
    keep = np.array(bx.non_maximum_suppression(boxes[None], np.ones((1, len(boxes)), bool), threshold))
    assert np.flatnonzero(keep[0]).tolist() == greedy_nms(boxes, threshold)


def test_nms_of_crowded_random_boxes_in_a_batch():
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 60, (3, 80, 2))
    boxes = np.concatenate([corners, corners + rng.integers(10, 50, (3, 80, 2))], -1).astype(np.float32)
    keep = np.array(bx.non_maximum_suppression(boxes, np.ones((3, 80), bool), 0.5))
    for row, kept in zip(boxes, keep, strict=True):
        assert np.flatnonzero(kept).tolist() == greedy_nms(row, 0.5)


def test_nms_needs_as_many_rounds_as_the_longest_chain():
    starts = np.arange(30) * 4  # each box suppresses the next one alone, so every other one stays
    boxes = np.stack([starts, 0 * starts, starts + 10, 0 * starts + 10], -1).astype(np.float32)
    keep = bx.non_maximum_suppression(boxes[None], np.ones((1, 30), bool), 0.4, rounds=30)
    assert np.flatnonzero(keep).tolist() == greedy_nms(boxes, 0.4) == list(range(0, 30, 2))


def test_nms_drops_invalid_rows_and_they_suppress_nothing():
    boxes = np.array([[[0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60]]], np.float32)
    keep = bx.non_maximum_suppression(boxes, np.array([[False, True, True]]), 0.5)
    assert np.array(keep).tolist() == [[False, True, True]]
