"""Target assignment on small cases that can be followed by hand."""

import dataclasses

import keras
import numpy as np
import pytest

from pumpseg_train.dataset.class_ids import OTHER
from pumpseg_train.model import boxes as bx
from pumpseg_train.model.profile import EDGE
from pumpseg_train.model.targets import anchor_targets, mask_targets, match, roi_targets

PROFILE = dataclasses.replace(EDGE, input_size=(96, 96))
ANCHORS = bx.anchors(PROFILE, (96, 96))
MOST = 4  # padded instances of an image


def truth(*rows):
    """Padded boxes (1, MOST, 4) and class_ids (1, MOST) of (class_id, x1, y1, x2, y2)."""
    boxes, class_ids = np.zeros((1, MOST, 4), np.float32), np.zeros((1, MOST), np.int32)
    for column, (class_id, *box) in enumerate(rows):
        boxes[0, column], class_ids[0, column] = box, class_id
    return boxes, class_ids


def targets_of(*rows, samples=100_000):
    found = anchor_targets(ANCHORS, *truth(*rows), keras.random.SeedGenerator(0), samples=samples)
    return [np.array(part)[0] for part in found]


def inside_share(anchors, box):
    """Share of each anchor that lies in the box."""
    width = np.minimum(anchors[:, 2], box[2]) - np.maximum(anchors[:, 0], box[0])
    height = np.minimum(anchors[:, 3], box[3]) - np.maximum(anchors[:, 1], box[1])
    return np.maximum(width, 0) * np.maximum(height, 0) / np.prod(anchors[:, 2:] - anchors[:, :2], axis=1)


def test_anchors_are_positive_negative_or_neither_by_their_overlap():
    box = [20, 18, 66, 60]
    positive, negative, matched = targets_of((1, *box))
    overlap = np.array(bx.iou(ANCHORS, np.array([box], np.float32)))[:, 0]
    assert overlap.max() > 0.6, "the case has a good anchor"
    assert np.array_equal(positive, overlap >= 0.6)
    assert np.array_equal(negative, overlap < 0.3)
    assert ((~positive) & (~negative)).any()
    assert np.allclose(matched[positive], box)


def test_the_best_anchor_of_a_badly_covered_instance_is_positive():
    box = [8, 40, 90, 52]  # long and flat: no anchor reaches 0.6
    positive, negative, matched = targets_of((1, *box))
    overlap = np.array(bx.iou(ANCHORS, np.array([box], np.float32)))[:, 0]
    assert 0.1 < overlap.max() < 0.6
    assert positive.any()
    assert np.allclose(overlap[positive], overlap.max(), atol=1e-4)
    assert not (positive & negative).any()
    assert np.allclose(matched[positive], box)


def test_an_instance_that_no_anchor_touches_well_has_no_positive_anchor():
    positive, _, _ = targets_of((1, 40, 40, 43, 42))  # overlaps of a few hundredths only
    assert not positive.any()


def test_crowd_regions_are_neither_positive_nor_negative():
    crowd = [0, 0, 48, 96]
    positive, negative, _ = targets_of((-1, *crowd))
    inside = inside_share(ANCHORS, crowd)
    assert not positive.any()
    assert not negative[inside > 0.5].any()
    assert negative[inside < 0.5].all()


def test_an_instance_inside_a_crowd_region_is_still_learnt():
    box = [20, 18, 66, 60]
    alone, _, _ = targets_of((1, *box))
    crowded, negative, _ = targets_of((1, *box), (-1, 0, 0, 96, 96))
    assert np.array_equal(alone, crowded)
    assert not negative[inside_share(ANCHORS, [0, 0, 96, 96]) > 0.51].any()


def test_padding_is_never_positive_wherever_its_box_lies():
    positive, negative, _ = targets_of((0, 20, 18, 66, 60))
    assert not positive.any()
    assert negative.all()


@pytest.mark.parametrize("samples", [16, 256])
def test_samples_are_capped_and_at_most_half_positive(samples):
    rows = [(1, 20, 18, 66, 60), (1, 2, 2, 30, 30), (2, 60, 60, 90, 90)]
    every, _, _ = targets_of(*rows)
    positive, negative, _ = targets_of(*rows, samples=samples)
    assert positive.sum() == min(every.sum(), samples // 2)
    assert (positive <= every).all()
    assert positive.sum() + negative.sum() == samples


def test_the_sample_is_random_but_follows_the_seed():
    rows = truth((1, 20, 18, 66, 60))
    first, again = (np.array(anchor_targets(ANCHORS, *rows, keras.random.SeedGenerator(s))[1]) for s in (1, 1))
    other = np.array(anchor_targets(ANCHORS, *rows, keras.random.SeedGenerator(2))[1])
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_images_of_a_batch_are_independent():
    boxes, class_ids = truth((1, 20, 18, 66, 60))
    both = np.concatenate([boxes, 0 * boxes]), np.concatenate([class_ids, 0 * class_ids])
    positive, negative, _ = anchor_targets(ANCHORS, *both, keras.random.SeedGenerator(0))
    assert np.array(positive)[0].any()
    assert not np.array(positive)[1].any()
    assert np.array(negative)[1].sum() == 256


def test_match_names_the_best_instance_and_leaves_out_the_rest():
    boxes, class_ids = truth((2, 0, 0, 10, 10), (0, 50, 50, 60, 60), (-1, 50, 50, 60, 60), (1, 4, 0, 14, 10))
    asked = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [50, 50, 60, 60]], np.float32)
    matches, overlaps = match(asked, boxes, class_ids, class_ids > 0)
    assert np.array(matches.index)[0, :2].tolist() == [0, 3]
    assert np.allclose(np.array(matches.overlap)[0], [1, 1, 0])
    assert np.array(matches.ignored)[0].tolist() == [False, False, True]
    assert np.allclose(np.array(overlaps)[0, :, 1:3], 0)


PROPOSALS = np.array(
    [[[20, 20, 60, 60], [24, 20, 64, 60], [0, 0, 96, 96], [70, 70, 90, 90], [2, 70, 20, 90], [70, 2, 90, 20]]],
    np.float32,
)


def rois_of(*rows, real=None, samples=24, positives=8):
    real = np.ones(PROPOSALS.shape[:2], bool) if real is None else real
    found = roi_targets(
        PROPOSALS, real, *truth(*rows), keras.random.SeedGenerator(0), samples=samples, positives=positives
    )
    return {name: np.array(getattr(found, name))[0] for name in found.__dataclass_fields__}


def test_rois_take_positives_first_then_background_then_nothing():
    box = [20, 20, 60, 60]
    rois = rois_of((2, *box))
    labels, overlap = rois["class_ids"], np.array(bx.iou(rois["boxes"], np.array([box], np.float32)))[:, 0]
    assert (labels == 2).sum() == 5, "two proposals, the truth and two jittered copies of it"
    assert (labels == 0).sum() == 4
    assert labels.tolist() == [2] * 5 + [-1] * 3 + [0] * 4 + [-1] * (len(labels) - 12)
    assert (overlap[labels == 2] >= 0.5).all()
    assert (overlap[labels == 0] < 0.5).all()
    assert np.allclose(rois["truth_boxes"][labels == 2], box)
    assert (rois["truth_index"][labels == 2] == 0).all()
    assert any(np.allclose(roi, box) for roi in rois["boxes"][labels == 2]), "the truth itself takes part"


def test_rois_are_capped():
    rois = rois_of((1, 20, 20, 60, 60), samples=5, positives=2)
    assert rois["class_ids"].tolist() == [1, 1, 0, 0, 0]


def test_half_of_the_background_is_what_looks_most_like_objects():
    """Proposals come by falling objectness: the first ones are those that raise false alarms."""
    for seed in range(5):
        found = roi_targets(
            PROPOSALS,
            np.ones(PROPOSALS.shape[:2], bool),
            *truth((1, 20, 20, 60, 60)),
            keras.random.SeedGenerator(seed),
            samples=4,
            positives=0,
        )
        boxes = np.array(found.boxes)[0]
        assert np.allclose(boxes[:2], PROPOSALS[0, 2:4])
        assert len({tuple(box) for box in boxes.round(3)}) == 4, "none twice"


def test_each_roi_has_the_class_of_its_own_instance():
    rois = rois_of((1, 20, 20, 60, 60), (2, 70, 70, 90, 90))
    for label, index, box in zip(rois["class_ids"], rois["truth_index"], rois["boxes"], strict=True):
        if label > 0:
            assert label == index + 1
            assert (box[0] > 45) == (index == 1)
    assert {1, 2} <= set(rois["class_ids"])


def test_rois_in_crowd_regions_and_unreal_ones_are_left_out():
    crowd = rois_of((-1, 60, 60, 96, 96))
    background = crowd["boxes"][crowd["class_ids"] == 0]
    assert not (crowd["class_ids"] > 0).any()
    assert len(background) == 5
    assert not any(np.allclose(box, PROPOSALS[0, 3]) for box in background)

    real = np.array([[True, False, False, True, False, False]])
    assert (rois_of((1, 20, 20, 60, 60), real=real)["class_ids"] == 0).sum() == 1


def test_other_objects_have_boxes_to_learn_but_are_background_to_the_rpn():
    box = [20, 20, 60, 60]
    rois = rois_of((OTHER, *box))
    assert (rois["class_ids"] == OTHER).sum() == 5
    assert np.allclose(rois["truth_boxes"][rois["class_ids"] == OTHER], box)
    positive, negative, _ = anchor_targets(ANCHORS, *truth((OTHER, *box)), keras.random.SeedGenerator(0))
    assert not np.array(positive).any()
    assert np.array(negative).sum() == 256


def test_an_image_without_instances_gives_background_only():
    assert set(rois_of()["class_ids"]) == {0, -1}


def disc_in_its_box(side=56):
    y, x = (np.mgrid[:side, :side] + 0.5) / side - 0.5
    return ((x**2 + y**2 <= 0.25) * 255).astype(np.float32)[None, None] / 255


def cell_centres(box, size):
    at = (np.arange(size) + 0.5) / size
    return box[0] + (box[2] - box[0]) * at, box[1] + (box[3] - box[1]) * at


@pytest.mark.parametrize(
    "roi", [[10, 20, 50, 80], [0, 0, 96, 96], [15, 30, 40, 50], [-8, 40, 31, 95], [60, 85, 95, 95]]
)
def test_mask_targets_show_the_instance_where_the_roi_sees_it(roi):
    box = [10, 20, 50, 80]  # the disc is an ellipse there
    wanted = np.zeros((28, 28))
    x, y = np.meshgrid(*cell_centres(roi, 28))
    distance = np.hypot((x - 30) / 20, (y - 50) / 30)
    wanted = distance <= 1
    clear = np.abs(distance - 1) > 0.06  # the mini mask has steps of 1/28 of the radius
    found = mask_targets(
        np.array([[roi]], np.float32), np.array([[box]], np.float32), np.zeros((1, 1), np.int32), disc_in_its_box(), 28
    )
    found = np.array(found)[0, 0]
    assert set(np.unique(found)) <= {0, 1}
    assert np.array_equal(found[clear], wanted[clear])
    assert clear.mean() > 0.8


def test_mask_targets_are_not_transposed_and_take_the_named_instance():
    left_half = np.zeros((1, 2, 56, 56), np.float32)
    left_half[0, 1, :, :28] = 1
    box = np.array([[[0, 0, 40, 40]]], np.float32)
    found = np.array(mask_targets(box, box, np.array([[1]]), left_half, 28))[0, 0]
    assert (found[:, :14] == 1).all()
    assert (found[:, 14:] == 0).all()
    assert not np.array(mask_targets(box, box, np.array([[0]]), left_half, 28)).any()
