"""Boxes that close around masks."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pumpseg_train.model.tighten_boxes import grow, tighten_to_masks

SIDE = 28


def closed(masks, seen, boxes=None):
    seen = np.array([seen], np.float32)
    boxes = seen if boxes is None else np.array([boxes], np.float32)
    result = tighten_to_masks(np.array([masks], np.float32), seen, boxes)
    return tuple(np.array(array)[0] for array in result)


def test_grow_adds_a_share_of_each_side():
    boxes = np.array([[10, 20, 30, 60]], np.float32)
    assert np.allclose(grow(boxes, 0.1), [[8, 16, 32, 64]])
    assert np.array_equal(grow(boxes, 0.0), boxes)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, SIDE - 1), st.integers(0, SIDE - 1), st.integers(1, SIDE), st.integers(1, SIDE))
def test_a_box_closes_around_a_sharp_rectangle(left, top, width, height):
    right, bottom = min(left + width, SIDE), min(top + height, SIDE)
    masks = np.zeros((SIDE, SIDE), np.float32)
    masks[top:bottom, left:right] = 1
    box, inside = closed(masks, (100, 50, 100 + 3 * SIDE, 50 + 2 * SIDE))
    assert np.allclose(box, (100 + 3 * left, 50 + 2 * top, 100 + 3 * right, 50 + 2 * bottom), atol=1e-3)
    assert inside.shape == (SIDE, SIDE)
    assert inside.min() >= 0.24, "little but the object is inside, at corners half of it in both directions"


def test_sides_lie_between_cells_where_the_probability_passes_one_half():
    masks = np.zeros((SIDE, SIDE), np.float32)
    masks[10:20, 10:20] = 0.9
    masks[10:20, 9] = 0.3  # so 0.5 lies two thirds of the way from the middle of column 10 to that of 9
    box, _ = closed(masks, (0, 0, SIDE, SIDE))
    assert np.isclose(box[0], 10.5 - 2 / 3, atol=1e-4)
    assert np.isclose(box[2], 19.5 + 4 / 9, atol=1e-4)


def test_a_mask_that_is_nowhere_likely_keeps_its_box():
    box, inside = closed(np.full((SIDE, SIDE), 0.5, np.float32), (0, 0, 56, 56), boxes=(14, 14, 42, 42))
    assert np.allclose(box, (14, 14, 42, 42))
    assert np.allclose(inside, 0.5, atol=1e-6)


def test_masks_stay_where_they_were_in_the_picture():
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    masks = 1 / (1 + np.exp(np.hypot(x - 12, y - 15) - 8))  # a soft disc of radius 8
    box, inside = closed(masks, (0, 0, SIDE, SIDE))
    assert np.allclose(box, (4, 7, 20, 23), atol=0.1)
    rows, columns = (box[side] + (np.arange(SIDE) + 0.5) / SIDE * (box[side + 2] - box[side]) for side in (1, 0))
    wanted = 1 / (1 + np.exp(np.hypot(columns[None] - 12, rows[:, None] - 15) - 8))
    assert np.abs(inside - wanted).max() < 0.05
