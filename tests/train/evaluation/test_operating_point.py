"""Thresholds, false alarms, and what a score is worth."""

import math

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.evaluation.operating_point import ScoredDetections, score_detections
from pumpseg_train.evaluation.report import match_photos

LARGE, SMALL = (60, 60, 40, 35), (30, 95, 14, 12)


def detections(scores, right, highest=(), instances=4):
    right = np.array(right, bool)
    return ScoredDetections(np.array(scores, float), right, right, instances, np.array(highest, float))


def test_a_threshold_has_its_recall_precision_and_alarms():
    point = detections([0.9, 0.8, 0.4], [1, 0, 1], highest=[0.0, 0.85, 0.3, 0.1]).at(0.5)
    assert (point.threshold, point.recall, point.precision, point.alarms) == (0.5, 0.25, 0.5, 25.0)


def test_the_lowest_threshold_with_few_enough_alarms_is_taken():
    scored = detections([0.9], [1], highest=[0.2, 0.555, 0.7, 0.0])
    assert scored.for_alarms(25).threshold == 0.56
    assert scored.for_alarms(50).threshold == 0.21
    assert scored.for_alarms(24).threshold == 0.71
    assert detections([0.9], [1], highest=[1.0]).for_alarms(1).threshold == 1.0, "as few as there can be"


def test_without_negative_photos_nothing_is_known_of_alarms():
    assert math.isnan(detections([0.9], [1]).at(0.5).alarms)


def test_without_detections_precision_is_not_a_number():
    assert math.isnan(detections([], []).at(0.5).precision)
    assert detections([], []).at(0.5).recall == 0


def test_the_curve_goes_through_every_hundredth():
    curve = detections([0.9], [1], highest=[0.5]).curve()
    assert [point.threshold for point in curve[:2]] == [0.01, 0.02]
    assert len(curve) == 100 and curve[-1].threshold == 1


def test_reliability_compares_scores_with_the_share_that_is_right():
    rows = detections([0.05, 0.91, 0.99, 1.0], [0, 1, 0, 1]).reliability()
    assert rows == [(0.05, 0.0, 1), (pytest.approx(0.9667, abs=1e-4), pytest.approx(2 / 3), 3)]


def test_recall_counts_large_instances_and_crowds_count_nothing(tmp_path, make_split):
    make_split(tmp_path, [[(0, LARGE), (0, SMALL)]])
    dataset = read_dataset(tmp_path)
    (photo,) = dataset.photos
    results = []
    for annotation, score in zip(photo.annotations, (0.9, 0.8), strict=True):
        mask = annotation.mask(photo.width, photo.height)
        encoded = coco_mask.encode(np.asfortranarray(mask))
        results.append({"image_id": photo.id, "category_id": 1, "bbox": [], "score": score, "segmentation": encoded})
    scored = score_detections(match_photos(dataset, results, 0.0)[1], [0.2])
    assert scored.instances == 1, "the other one is smaller than 32 pixels"
    assert scored.right.tolist() == [True, True] and scored.counted.tolist() == [True, False]
    assert scored.at(0.95).recall == 0 and scored.at(0.85).recall == 1
