"""Pseudo-labels: a trained model labels photos for the training of the next one."""

from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pumpseg_train.dataset.labelled_set import Annotation, LabelledSet, Photo, sort_classes
from pumpseg_train.dataset.masks import encode
from pumpseg_train.dataset.photo_file import read_frame
from pumpseg_train.evaluation.metrics import Predict


def pseudo_label(
    photos: Iterable[Path],
    predict: Predict,
    *,
    threshold: float,
    max_detections: int,
    solidity: float = 0.0,
    progress: Callable[[], None] = lambda: None,
) -> LabelledSet:
    """The photos in which `predict` is sure of something, labelled with that, as the split train.

    Detections with a score of at least `threshold` become instances if their mask fills at least `solidity` of its
    convex hull, unlike piles and fragments. The rest of the picture becomes a crowd region, so that what the model
    missed is not learnt as background. Photos with more than `max_detections` are left out: models err too often in
    piles.

    Raises:
        DatasetError: a photo cannot be read.
    """
    labelled: list[Photo] = []
    classes: tuple[str, ...] = ()
    for path in photos:
        frame = read_frame(path)
        instances = predict(frame)
        classes = instances.class_names
        instances = instances[instances.scores >= threshold]
        annotations = [
            Annotation(int(class_id) + 1, encode(mask))
            for class_id, mask in zip(instances.class_ids, instances.masks, strict=True)
            if fills_hull(mask.view(np.uint8), solidity)
        ]
        if annotations and len(instances) <= max_detections:
            height, width = frame.shape[:2]
            rest = Annotation(annotations[0].class_id, encode(np.ones((height, width), bool)), crowd=True)
            labelled.append(Photo(path, width, height, (*annotations, rest)))
        progress()
    return sort_classes(LabelledSet(classes, {"train": tuple(labelled)}))


def fills_hull(mask: NDArray[np.uint8], share: float) -> bool:
    """Whether a mask (h, w), not empty, covers this share of its convex hull."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return False
    hull = np.zeros_like(mask)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.concatenate(contours)), 1)
    return cv2.countNonZero(mask) >= share * cv2.countNonZero(hull)
