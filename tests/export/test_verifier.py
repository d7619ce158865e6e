"""The verifier: what it learns from, what it learns, and what the graph makes of it."""

import numpy as np
import pytest

import pumpseg_export.verifier as verifier_module
from pumpseg.boxes import box_iou
from pumpseg.errors import PumpsegError
from pumpseg.inference.letterbox import letterbox
from pumpseg_export.assemble import assemble
from pumpseg_export.metadata import describe, write_model
from pumpseg_export.static_graph import assemble_static
from pumpseg_export.verifier import (
    FEATURES,
    MIN_DETECTIONS,
    OWN,
    OWN_SCORE,
    PICTURE,
    Detections,
    Verifier,
    collect,
    fit,
    logistic_regression,
)
from pumpseg_train.dataset.labelled_set import Annotation, LabelledSet, Photo
from pumpseg_train.dataset.photo_file import read_frame

SIZE = (64, 128)


@pytest.fixture(scope="module")
def feature_graph(three_classes):
    return assemble(three_classes, SIZE, features=True)


@pytest.fixture(scope="module")
def verifier(feature_graph, wide_image, run_graph):
    """One whose probabilities differ a lot between the detections."""
    features = run_graph(feature_graph, wide_image)[FEATURES]
    weights = np.random.default_rng(0).normal(size=(features.shape[1], 3)).astype(np.float32)
    weights *= 2 / (features @ weights).std()
    return Verifier(weights, -(features @ weights).mean(axis=0))


def verified(verifier, features, class_ids, scores):
    """The new scores, by the definition."""
    logits = features @ verifier.weights + verifier.bias
    right = 1 / (1 + np.exp(-logits[np.arange(len(class_ids)), class_ids]))
    convincing = np.sqrt(scores * right)
    best = np.array([convincing[class_ids == class_id].max() for class_id in class_ids])
    return scores**OWN_SCORE * best**PICTURE * right**OWN


def test_scores_are_weighed_by_the_detection_and_by_the_picture(
    three_classes, feature_graph, verifier, wide_image, run_graph
):
    before, after = run_graph(feature_graph, wide_image), run_graph(assemble(three_classes, SIZE, verifier), wide_image)
    wanted = verified(verifier, before[FEATURES], before["class_ids"], before["scores"])
    order = np.argsort(-wanted)
    assert not np.array_equal(order, np.arange(len(order))), "this verifier changes the order"
    # The other graph keeps lower scores, too; these must be among them.
    found = {tuple(np.round(box)): index for index, box in enumerate(after["boxes"])}
    places = [found[tuple(np.round(before["boxes"][index]))] for index in order]
    np.testing.assert_allclose(after["scores"][places], wanted[order], atol=1e-3)
    np.testing.assert_allclose(after["masks"][places], before["masks"][order], atol=1e-3)
    assert np.array_equal(after["class_ids"][places], before["class_ids"][order])
    assert (np.diff(after["scores"]) <= 0).all(), "best first"
    assert FEATURES not in after


def test_nothing_is_below_the_threshold(three_classes, verifier, wide_image, run_graph):
    scores = run_graph(assemble(three_classes, SIZE, verifier), wide_image)["scores"]
    assert len(scores)
    assert scores.min() > three_classes.profile.score_threshold


def test_the_static_graph_has_it_too(three_classes, verifier, pictures, run_graph):
    dynamic, static = assemble(three_classes, SIZE, verifier), assemble_static(three_classes, SIZE, verifier)
    for image in pictures:
        wanted, found = run_graph(dynamic, image), run_graph(static, image)
        count = np.count_nonzero(found["scores"])
        assert count == len(wanted["scores"]) > 0
        for name in wanted:
            np.testing.assert_allclose(found[name][:count], wanted[name], atol=1e-3)


def test_a_verifier_that_trusts_nothing_leaves_nothing(three_classes, verifier, wide_image, run_graph):
    nothing = Verifier(np.zeros_like(verifier.weights), np.full(3, -40, np.float32))
    assert len(run_graph(assemble(three_classes, SIZE, nothing), wide_image)["scores"]) == 0


def test_the_regression_is_at_its_optimum_whatever_the_scale_of_the_features():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(400, 6)) * [1, 10, 0.01, 5, 1, 1] + [0, 50, 1, -3, 0, 0]
    positive = features[:, 0] + rng.normal(size=400) > 0.4
    weights, bias = logistic_regression(features, positive, 2.0)
    probability = 1 / (1 + np.exp(-(features @ weights + bias)))
    assert ((probability > 0.5) == positive).mean() > 0.7
    assert abs((probability - positive).sum()) < 1e-3, "the bias has no penalty"
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    gradient = scaled.T @ (probability - positive) + 2.0 * weights * features.std(axis=0)
    np.testing.assert_allclose(gradient, 0, atol=1e-3)


def test_separable_classes_and_constant_features_do_not_diverge():
    features = np.concatenate([np.ones((40, 1)), np.arange(40.0)[:, None]], axis=1)
    weights, bias = logistic_regression(features, np.arange(40) >= 20, 1.0)
    assert np.isfinite([*weights, bias]).all()
    assert (features @ weights + bias > 0).tolist() == [False] * 20 + [True] * 20


def test_each_class_learns_from_its_own_detections():
    rng = np.random.default_rng(2)
    features = rng.normal(size=(800, 2)).astype(np.float32)
    class_ids = np.arange(800) % 2
    right = np.where(class_ids == 0, features[:, 0] > 0, features[:, 1] < 0)
    verifier = fit(Detections(features, class_ids, right), ("apple", "pumpkin"))
    assert verifier.weights.shape == (2, 2)
    assert verifier.weights[0, 0] > 5 * abs(verifier.weights[1, 0])
    assert -verifier.weights[1, 1] > 5 * abs(verifier.weights[0, 1])
    assert (verifier.right, verifier.wrong) == (right.sum(), (~right).sum())


def test_too_few_detections_are_refused():
    right = np.arange(100) < MIN_DETECTIONS - 1
    detections = Detections(np.zeros((100, 3), np.float32), np.zeros(100, np.int64), right)
    with pytest.raises(PumpsegError, match=f"of pumpkin there are {MIN_DETECTIONS - 1} and 51"):
        fit(detections, ("pumpkin",))


@pytest.fixture
def labelled(feature_graph, three_classes, photos, run_graph, tmp_path):
    """The file of the graph, a photo smaller than REDUCED_SIDE, and the graph's detections in it, a large one first."""
    file = tmp_path / "features.onnx"
    write_model(feature_graph, describe(three_classes, SIZE), file)
    frame = read_frame(photos[0])
    image, place = letterbox(frame, SIZE, swap_red_blue=True)
    found = run_graph(feature_graph, image[None])
    keep = found["scores"] >= 0.1
    boxes, class_ids = place.to_frame(found["boxes"][keep]), found["class_ids"][keep]
    inside = boxes.clip(0, [frame.shape[1], frame.shape[0]] * 2)
    whole = box_iou(boxes, inside).diagonal() > 0.9
    first = np.argmax(whole * np.prod(inside[:, 2:] - inside[:, :2], axis=1))
    order = np.r_[first, np.delete(np.arange(len(boxes)), first)]
    return file, photos[0], frame.shape[:2], boxes[order], class_ids[order]


def rectangle(box):
    x1, y1, x2, y2 = (float(round(side)) for side in box)
    return [[x1, y1, x2, y1, x2, y2, x1, y2]]


def set_of(photo, classes, annotations, **record):
    path, (height, width) = photo
    return LabelledSet(classes, {"train": (Photo(path, width, height, tuple(annotations), record=record),)})


def test_right_are_detections_where_an_instance_of_their_class_is(labelled, three_classes):
    file, path, size, boxes, class_ids = labelled
    class_id = int(class_ids[0]) + 1
    for annotation, some in (
        (Annotation(class_id, rectangle(boxes[0])), True),
        (Annotation(class_id % 3 + 1, rectangle(boxes[0])), False),
        (Annotation(class_id, rectangle(boxes[0]), crowd=True), False),
    ):
        found = collect(file, set_of((path, size), three_classes.classes, [annotation]), [])
        assert found.right.all()
        assert (class_ids[0] in found.class_ids) == some
        assert len(found.right) < len(boxes)
        assert len(found.features) == len(found.class_ids) == len(found.right)


def test_wrong_are_those_in_photos_without_the_classes(labelled, three_classes):
    file, path, size, boxes, _ = labelled
    photos = []
    found = collect(file, set_of((path, size), three_classes.classes, []), [path], photos.append)
    assert photos == [1, 1]
    assert len(found.right) == len(boxes)
    assert not found.right.any()


def test_large_photos_are_seen_in_a_reduced_size_too(labelled, three_classes, monkeypatch):
    file, path, size, boxes, class_ids = labelled
    labels = [Annotation(int(each) + 1, rectangle(box)) for box, each in zip(boxes, class_ids, strict=True)]
    photo = set_of((path, size), three_classes.classes, labels)
    once = len(collect(file, photo, []).right)
    monkeypatch.setattr(verifier_module, "REDUCED_SIDE", max(size) - 2)
    assert len(collect(file, photo, []).right) > once > 0
