import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pumpseg.masks.rle import encode
from pumpseg_bench.accuracy_check import compare

SIZE = (60, 80)


def frame_of(*boxes, scores=None, class_ids=None):
    """What a row finds in a frame: rectangles that fill their boxes, xyxy."""
    masks = []
    for x1, y1, x2, y2 in boxes:
        mask = np.zeros(SIZE, np.bool_)
        mask[y1:y2, x1:x2] = True
        masks.append(encode(mask))
    return {
        "boxes": [list(map(float, box)) for box in boxes],
        "scores": scores or [0.9] * len(boxes),
        "class_ids": class_ids or [0] * len(boxes),
        "masks": masks,
    }


LEFT, RIGHT = (0, 0, 20, 20), (40, 10, 70, 50)


@st.composite
def frames(draw):
    corners = st.tuples(st.integers(0, 60), st.integers(0, 40), st.integers(1, 20), st.integers(1, 20))
    return frame_of(*[(x, y, x + w, y + h) for x, y, w, h in draw(st.lists(corners, max_size=4, unique=True))])


@settings(max_examples=50)
@given(st.lists(frames(), min_size=1, max_size=3))
def test_everything_agrees_with_itself(found):
    agreement = compare(found, found)
    assert agreement.agrees
    assert agreement.matched == 1
    assert agreement.mask_iou in (None, 1.0)
    assert agreement.score_difference in (None, 0.0)


@settings(max_examples=50)
@given(frames(), frames())
def test_agreement_is_mutual_and_a_share(first, second):
    one, other = compare([first], [second]), compare([second], [first])
    assert one.matched == other.matched
    assert 0 <= one.matched <= 1
    assert (one.mask_iou is None) == (other.mask_iou is None)


def test_what_is_found_in_another_place_disagrees():
    agreement = compare([frame_of((20, 20, 40, 40))], [frame_of(LEFT)])
    assert (agreement.matched, agreement.mask_iou, agreement.agrees) == (0, None, False)


def test_what_is_not_found_at_all_disagrees():
    agreement = compare([frame_of(LEFT)], [frame_of(LEFT, RIGHT)])
    assert agreement.matched == pytest.approx(2 / 3)
    assert agreement.mask_iou == 1
    assert not agreement.agrees
    assert not compare([frame_of()], [frame_of(LEFT)]).agrees


def test_another_class_is_no_match():
    assert compare([frame_of(LEFT, class_ids=[1])], [frame_of(LEFT)]).matched == 0


def test_a_wrong_mask_in_the_right_box_disagrees():
    found = frame_of(LEFT)
    found["masks"] = frame_of((0, 0, 20, 14))["masks"]
    agreement = compare([found], [frame_of(LEFT)])
    assert agreement.matched == 1
    assert agreement.mask_iou == pytest.approx(0.7)
    assert not agreement.agrees


def test_the_order_does_not_matter_and_scores_are_compared():
    found = frame_of(RIGHT, LEFT, scores=[0.7, 0.9])
    agreement = compare([found], [frame_of(LEFT, RIGHT, scores=[0.8, 0.7])])
    assert agreement.agrees
    assert agreement.score_difference == pytest.approx(0.1)


def test_other_frames_cannot_be_compared():
    with pytest.raises(ValueError, match="2 frames cannot be compared with 1"):
        compare([frame_of(), frame_of()], [frame_of()])
