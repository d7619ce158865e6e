"""A verifier: decides by the backbone's features in and around a detection how likely it is right.

The box head sees 7x7 features of the pyramid and learns from few objects; it takes round orange things for pumpkins.
The backbone, which still knows much of what ImageNet taught it, tells them apart: a logistic regression for each class
on the means of its last two outputs over the box and what surrounds it. The features are there, so it costs little.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pumpseg.boxes import box_iou
from pumpseg.errors import PumpsegError
from pumpseg.inference.model import Model
from pumpseg_train.dataset.labelled_set import LabelledSet, Photo
from pumpseg_train.dataset.photo_file import read_frame
from pumpseg_train.progress import Advance

CONTEXT = 0.2  # of a box on each side that a verifier sees, too
FEATURES = "features"  # the output of a graph that is made to fit a verifier
MIN_SCORE = 0.1  # of the detections that it learns from
MIN_DETECTIONS = 50  # right ones and wrong ones of each class
RIGHT_IOU = 0.5  # with the box of an instance of its class
OWN_SCORE, PICTURE, OWN = 0.5, 0.4, 0.1
"""Exponents of a new score: of the old one, of the best sqrt(score x probability) of its class in the picture, and of
the detection's own probability. Within a picture the order so remains that of the box head, which ranks small and
hidden objects better; a picture in which nothing convinces loses all its scores."""
REDUCED_SIDE = 400  # photos are shown in this size, too: else small photos, as many negatives are, would look wrong
_PENALTY = 300.0
_ITERATIONS = 25


@dataclass(frozen=True)
class Verifier:
    """Logistic regressions of K classes on F features: weights float32 (F, K), bias float32 (K,).

    right, wrong: how many detections of each kind it was fitted to.
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    right: int = 0
    wrong: int = 0


@dataclass(frozen=True)
class Detections:
    """What a verifier is fitted to: features float32 (N, F), class ids int64 (N,), and whether each is right (N,).

    Right are detections of labelled instances, wrong those in photos without any of the classes.
    """

    features: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    right: NDArray[np.bool_]


def collect(
    file: Path, data: LabelledSet, negatives: Sequence[Path], advance: Advance = lambda count: None
) -> Detections:
    """The detections of a graph with the output FEATURES on labelled photos, and on photos without any of the classes.

    advance: called with 1 after each photo. Raises PumpsegError for a photo that cannot be read.
    """
    model = Model.open(file, "cpu")
    parts = []
    for photo in data.photos:
        for view in _views(photo):
            parts.append(_right_detections(model, view, photo))
        advance(1)
    for path in negatives:
        _, class_ids, features = _detect(model, read_frame(path))
        parts.append(Detections(features, class_ids, np.zeros(len(class_ids), bool)))
        advance(1)
    return Detections(*(np.concatenate([getattr(part, name) for part in parts]) for name in Detections.__annotations__))


def fit(detections: Detections, classes: Sequence[str]) -> Verifier:
    """The verifier that tells the right detections from the wrong ones, by ridge-penalised maximum likelihood.

    Raises PumpsegError for a class with fewer than MIN_DETECTIONS of either.
    """
    columns = []
    for class_id, name in enumerate(classes):
        own = detections.class_ids == class_id
        right = detections.right[own]
        if min(right.sum(), (~right).sum()) < MIN_DETECTIONS:
            raise PumpsegError(
                f"a verifier learns from {MIN_DETECTIONS} right and {MIN_DETECTIONS} wrong detections of each class; "
                f"of {name} there are {right.sum()} and {(~right).sum()}: name more photos, or leave --negatives out"
            )
        columns.append(logistic_regression(detections.features[own], right, _PENALTY))
    weights, bias = (np.stack(values, axis=-1).astype(np.float32) for values in zip(*columns, strict=True))
    return Verifier(weights, bias, int(detections.right.sum()), int((~detections.right).sum()))


def logistic_regression(
    features: NDArray[np.floating], positive: NDArray[np.bool_], penalty: float
) -> tuple[NDArray[np.float64], np.float64]:
    """Weights (F,) and bias of P(positive) = sigmoid(features @ weights + bias), features (N, F), positive (N,).

    Newton's method (Hastie et al., The Elements of Statistical Learning, section 4.4.1); penalty: of half the squared
    weights of features with mean 0 and standard deviation 1.
    """
    mean, deviation = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64) + 1e-6
    design = np.concatenate([(features - mean) / deviation, np.ones((len(features), 1))], axis=1)
    ridge = np.full(design.shape[1], penalty)
    ridge[-1] = 1e-6
    solution = np.zeros(design.shape[1])
    for _ in range(_ITERATIONS):
        probability = 1 / (1 + np.exp(-np.clip(design @ solution, -30, 30)))
        gradient = design.T @ (probability - positive) + ridge * solution
        curvature = (design * (probability * (1 - probability))[:, None]).T @ design + np.diag(ridge)
        step = np.linalg.solve(curvature, gradient)
        solution -= step
        if np.abs(step).max() < 1e-6:
            break
    weights = solution[:-1] / deviation
    return weights, solution[-1] - mean @ weights


@dataclass(frozen=True)
class _View:
    frame: NDArray[np.uint8]
    scale: float  # pixels of the frame per pixel of the photo


def _views(photo: Photo) -> Iterator[_View]:
    frame = read_frame(photo.path)
    yield _View(frame, 1.0)
    scale = REDUCED_SIDE / max(frame.shape[:2])
    if scale < 1:
        reduced = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        yield _View(np.asarray(reduced, np.uint8), scale)


def _detect(
    model: Model, frame: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """Boxes (N, 4) in the frame, class ids and features of the detections from MIN_SCORE."""
    image, place = model.prepare(frame)
    outputs = model.session.run(["boxes", "class_ids", FEATURES], model.inputs(image, MIN_SCORE))
    return place.to_frame(outputs[0]), outputs[1], outputs[2]


def _right_detections(model: Model, view: _View, photo: Photo) -> Detections:
    boxes, class_ids, features = _detect(model, view.frame)
    best = np.zeros(len(boxes))
    for annotation in photo.annotations:
        if not annotation.crowd:
            x, y, width, height = cv2.boundingRect(annotation.mask(photo.width, photo.height))
            box = np.array([[x, y, x + width, y + height]], np.float64)
            overlaps = box_iou(boxes / view.scale, box)[:, 0]
            best = np.maximum(best, np.where(class_ids == annotation.class_id - 1, overlaps, 0))
    right = best >= RIGHT_IOU
    return Detections(features[right], class_ids[right], right[right])
