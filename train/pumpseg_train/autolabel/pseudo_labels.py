"""Pseudo-labels: a trained model labels photos for the training of the next one."""

from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pumpseg_train.dataset.annotations import read_frame
from pumpseg_train.dataset.labelled_set import Label, LabelledPhoto
from pumpseg_train.dataset.masks import encode
from pumpseg_train.evaluation.metrics import Predict


def pseudo_label(
    photos: Iterable[Path],
    predict: Predict,
    *,
    score: float,
    most: int,
    solidity: float = 0.0,
    progress: Callable[[], None] = lambda: None,
) -> list[LabelledPhoto]:
    """The photos in which `predict` is sure of something, labelled with that.

    Detections of at least `score` become instances if their mask fills at least `solidity` of its convex
    hull: heaps and fragments do not. All the rest of the picture becomes a crowd region, so that what the
    teacher has missed is not learnt as background. Photos with more than `most` detections are left out:
    in heaps it errs too often.

    Raises:
        DatasetError: a photo cannot be read.
    """
    labelled = []
    for path in photos:
        frame = read_frame(path)
        instances = predict(frame)
        instances = instances[instances.scores >= score]
        labels = [
            Label(name, encode(mask))
            for name, mask in zip(instances.labels, instances.masks, strict=True)
            if fills_hull(mask.view(np.uint8), solidity)
        ]
        if labels and len(instances) <= most:
            height, width = frame.shape[:2]
            rest = Label(labels[0].class_name, encode(np.ones((height, width), bool)), crowd=True)
            labelled.append(LabelledPhoto(path, width, height, (*labels, rest)))
        progress()
    return labelled


def fills_hull(mask: NDArray[np.uint8], share: float) -> bool:
    """Whether a mask (h, w), not empty, covers this share of its convex hull."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return False
    hull = np.zeros_like(mask)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.concatenate(contours)), 1)
    return cv2.countNonZero(mask) >= share * cv2.countNonZero(hull)
