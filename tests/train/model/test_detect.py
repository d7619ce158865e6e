"""Padded detections, best first, and masks that their boxes are tightened to."""

import dataclasses

import numpy as np
import pytest

from pumpseg_train.model.detect import Detector, of_class
from pumpseg_train.model.profile import EDGE, MATTERPORT_RESNET50


@pytest.fixture(scope="module")
def detections(tiny_model):
    images = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3)).astype(np.uint8)
    return {name: np.array(value) for name, value in Detector(tiny_model)(images).items()}


def test_every_image_has_the_same_number_of_rows_best_first(detections, tiny_model):
    count = tiny_model.profile.max_detections
    assert {name: value.shape for name, value in detections.items()} == {
        "boxes": (2, count, 4),
        "scores": (2, count),
        "class_ids": (2, count),
        "masks": (2, count, 28, 28),
        "valid": (2, count),
    }
    for scores, valid in zip(detections["scores"], detections["valid"], strict=True):
        assert valid.any()
        assert (np.diff(scores[valid]) <= 0).all()
        assert (scores[valid] >= tiny_model.profile.score_threshold).all()
        assert not (np.diff(valid.astype(int)) > 0).any(), "real ones come first"


def test_boxes_are_in_the_image_and_classes_count_from_0(detections):
    boxes = detections["boxes"][detections["valid"]]
    assert boxes.min() >= 0 and boxes.max() <= 96
    assert (boxes[:, 2:] >= boxes[:, :2]).all()
    assert set(detections["class_ids"][detections["valid"]]) <= {0, 1}
    assert detections["masks"].min() >= 0 and detections["masks"].max() <= 1


def test_a_higher_threshold_leaves_the_best(tiny_model, detections):
    images = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3)).astype(np.uint8)
    cut = float(np.median(detections["scores"][detections["valid"]]))
    stricter = dataclasses.replace(tiny_model.profile, score_threshold=cut)
    found = Detector(dataclasses.replace(tiny_model, profile=stricter))(images)
    valid = np.array(found["valid"])
    assert valid.sum() == (detections["valid"] & (detections["scores"] >= cut)).sum()


def test_the_answer_for_its_class_is_taken_where_there_is_one_per_class():
    answers = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    chosen = np.array(of_class(answers, np.array([1, 0]), MATTERPORT_RESNET50))
    assert np.array_equal(chosen, [answers[0, 2], answers[1, 1]]), "after the background"
    assert of_class(answers, np.array([1, 0]), EDGE) is answers
