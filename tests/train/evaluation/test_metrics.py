"""COCO figures of predictions whose worth is known."""

import dataclasses
import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

from pumpseg.errors import DatasetError
from pumpseg.instances import Instances
from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.dataset.photo_file import read_frame
from pumpseg_train.evaluation.metrics import (
    AveragePrecision,
    Metrics,
    detect,
    evaluate,
    false_alarms,
    score,
)

LARGE, MIDDLE, SMALL = (60, 60, 40, 35), (120, 70, 25, 28), (30, 95, 14, 12)
SIDE = 112


def instances_of(masks, class_ids, class_names, score=0.9):
    """Instances with these boxes, and masks that are exact up to the grid."""
    boxes = np.zeros((len(masks), 4), np.float32)
    probabilities = np.zeros((len(masks), SIDE, SIDE), np.float32)
    for row, mask in enumerate(masks):
        x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
        boxes[row] = x, y, x + w, y + h
        crop = mask[y : y + h, x : x + w].astype(np.float32)
        probabilities[row] = cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
    scores = np.full(len(masks), score, np.float32)
    return Instances.in_frame(boxes, scores, np.array(class_ids, np.int64), probabilities, (120, 160), class_names)


def oracle(dataset, class_names=("pumpkin",), change=lambda instances: instances):
    """A predictor that looks the truth up by its pixels."""
    by_frame = {read_frame(photo.path).tobytes(): photo for photo in dataset.photos}

    def predict(frame):
        photo = by_frame[frame.tobytes()]
        masks = [annotation.mask(160, 120).astype(bool) for annotation in photo.annotations]
        names = [dataset.classes[annotation.class_id - 1] for annotation in photo.annotations]
        return change(instances_of(masks, [class_names.index(name) for name in names], class_names))

    return predict


@pytest.fixture
def dataset(fruit):
    return read_dataset(fruit, "val")


def test_perfect_predictions_score_one(dataset):
    counted = []
    metrics = score(dataset, detect(dataset, oracle(dataset), counted.append))
    assert metrics.box.ap == pytest.approx(1)
    assert metrics.box.ap50 == metrics.mask.ap50 == metrics.mask.ap75 == pytest.approx(1)
    assert metrics.mask.ap > 0.97
    assert counted == [1, 1]


def test_sizes_without_instances_are_nan_and_null_in_json(dataset):
    metrics = evaluate(dataset, oracle(dataset))
    assert (metrics.box.small, metrics.box.medium) == pytest.approx((1, 1))
    assert np.isnan(metrics.box.large)
    assert json.loads(json.dumps(metrics.to_json(), allow_nan=False))["box"]["large"] is None


def test_no_predictions_score_zero(dataset):
    metrics = evaluate(dataset, lambda frame: Instances.empty(frame.shape[:2], ("pumpkin",)))
    assert metrics.to_json()["mask"] == dict.fromkeys(("ap", "ap50", "ap75", "small", "medium", "large"), 0.0)


def test_a_missed_instance_costs_recall(dataset):
    metrics = evaluate(dataset, oracle(dataset, change=lambda found: found[:1]))
    assert metrics.mask.ap50 == pytest.approx(2 / 3, abs=0.02)


def test_shifted_masks_cost_mask_ap_but_not_box_ap(dataset):
    def shift(found):
        moved = np.roll(found.cells.probabilities, SIDE // 4, axis=2)
        return replace(found, cells=replace(found.cells, probabilities=moved))

    metrics = evaluate(dataset, oracle(dataset, change=shift))
    assert metrics.box.ap == pytest.approx(1)
    assert metrics.mask.ap < 0.6


def test_class_names_are_matched_not_their_numbers(tmp_path, make_split):
    make_split(tmp_path, [[(0, LARGE), (1, MIDDLE)], [(1, SMALL)]], classes=("apple", "pumpkin"))
    dataset = read_dataset(tmp_path)
    for names in (("apple", "pumpkin"), ("pumpkin", "apple"), ("melon", "pumpkin", "apple")):
        assert evaluate(dataset, oracle(dataset, names)).box.ap == pytest.approx(1)
    # Called by each other's name, nothing is right.
    confused = {"apple": "pumpkin", "pumpkin": "apple"}

    def swap(found):
        return replace(found, class_names=tuple(confused[name] for name in found.class_names))

    assert evaluate(dataset, oracle(dataset, ("apple", "pumpkin"), swap)).box.ap < 0.1


def test_false_alarms_counts_photos_and_names_their_best_score(tmp_path):
    scores = {10: [], 20: [0.3, 0.4], 30: [0.5], 40: [0.6, 0.95]}
    for value in scores:
        cv2.imwrite(str(tmp_path / f"{value}.png"), np.full((120, 160, 3), value, np.uint8))

    def predict(frame):
        mask = np.pad(np.ones((30, 30), bool), ((5, 85), (5, 125)))
        found = scores[int(frame[0, 0, 0])]
        instances = instances_of([mask] * len(found), [0] * len(found), ("pumpkin",))
        instances.scores[:] = found
        return instances

    photos = sorted(tmp_path.iterdir())
    assert false_alarms(photos, predict) == [(photos[2], 0.5), (photos[3], pytest.approx(0.95))]
    assert len(false_alarms(photos, predict, threshold=0.35)) == 3
    assert len(false_alarms(photos, predict, threshold=0.99)) == 0


def test_frames_are_read_as_a_camera_gives_them(tmp_path):
    path = tmp_path / "red.png"
    cv2.imwrite(str(path), np.full((8, 8, 3), (0, 0, 255), np.uint8))
    assert read_frame(path)[0, 0].tolist() == [0, 0, 255]  # BGR
    (tmp_path / "bad.png").write_text("no image")
    with pytest.raises(DatasetError, match=r"bad\.png cannot be read as an image"):
        read_frame(tmp_path / "bad.png")


def test_figures_are_plain_values():
    figures = AveragePrecision(0.5, 0.6, 0.7, float("nan"), 0.1, 0.2)
    assert Metrics(figures, figures).to_json()["box"] == {
        "ap": 0.5,
        "ap50": 0.6,
        "ap75": 0.7,
        "small": None,
        "medium": 0.1,
        "large": 0.2,
    }


def test_annotations_need_no_area_box_or_crowd_flag(fruit, tmp_path):
    shutil.copytree(fruit, tmp_path / "data")
    path = tmp_path / "data" / "val" / "annotations.json"
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        for name in ("area", "bbox", "iscrowd"):
            annotation.pop(name, None)
    path.write_text(json.dumps(content))
    dataset = read_dataset(tmp_path / "data", "val")
    metrics = evaluate(dataset, lambda frame: Instances.empty(frame.shape[:2], dataset.classes))
    assert metrics.mask.ap == 0


def test_a_photo_of_another_size_than_its_annotations_is_refused(fruit, tmp_path):
    shutil.copytree(fruit, tmp_path / "data")
    dataset = read_dataset(tmp_path / "data", "val")
    photo = dataset.photos[0]
    cv2.imwrite(str(photo.path), cv2.resize(cv2.imread(str(photo.path)), None, fx=0.5, fy=0.5))
    with pytest.raises(DatasetError, match="its annotations are for"):
        evaluate(dataset, lambda frame: Instances.empty(frame.shape[:2], dataset.classes))


@pytest.mark.parametrize("ids", [range(9), [5] * 9])
def test_ids_of_annotations_do_not_matter(dataset, ids):
    """pycocotools takes the id 0 for a match with nothing, and one that occurs twice for one annotation."""
    numbers = iter(ids)
    photos = tuple(
        dataclasses.replace(
            photo, annotations=tuple(dataclasses.replace(a, id=next(numbers)) for a in photo.annotations)
        )
        for photo in dataset.photos
    )
    assert evaluate(dataclasses.replace(dataset, splits={"val": photos}), oracle(dataset)).mask.ap50 == pytest.approx(1)
