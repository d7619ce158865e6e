"""Masks of objects photographed on white, as shops do: GrabCut (Rother et al. 2004) started from the colours."""

from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pumpseg_train.autolabel.pseudo_labels import fills_hull
from pumpseg_train.dataset.labelled_set import Annotation, LabelledSet, Photo
from pumpseg_train.dataset.masks import encode
from pumpseg_train.dataset.photo_file import read_frame

_WORKING_SIDE = 400  # pixels: small photos are enlarged to about this, large ones shrunk
_MARGIN = 12
_MIN_AREA = 0.01  # of the photo
_SOLIDITY = 0.93  # less is several objects that touch, or one with its shadow
_WHITE_BORDER = 0.75  # share of the photo's edge that is white: less, and it was not taken on white
_WHITE = 235  # HSV value and saturation of what is surely background
_GREY = 18
_COLOURED = 80  # saturation of what is probably object, and
_SURE = 110  # surely


def label_on_white(photos: Iterable[Path], class_name: str, progress: Callable[[], None] = lambda: None) -> LabelledSet:
    """The photos whose coloured objects on white could be separated, each an instance of the class; the split train.

    Photos with anything doubtful in them, such as objects that touch, are left out entirely.

    Raises:
        DatasetError: a photo cannot be read.
    """
    labelled = []
    for path in photos:
        frame = read_frame(path)
        masks = objects_on_white(frame)
        if masks:
            height, width = frame.shape[:2]
            labelled.append(Photo(path, width, height, tuple(Annotation(1, encode(mask)) for mask in masks)))
        progress()
    return LabelledSet((class_name,), {"train": tuple(labelled)})


def objects_on_white(frame: NDArray[np.uint8]) -> list[NDArray[np.bool_]]:
    """Masks bool (H, W) of the objects in a photo, uint8 BGR (H, W, 3); none where one of them is doubtful."""
    height, width = frame.shape[:2]
    scale = _WORKING_SIDE / max(height, width)
    picture = np.asarray(cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC), np.uint8)
    picture = np.asarray(
        cv2.copyMakeBorder(picture, _MARGIN, _MARGIN, _MARGIN, _MARGIN, cv2.BORDER_REPLICATE), np.uint8
    )
    _, saturation, value = cv2.split(cv2.cvtColor(picture, cv2.COLOR_BGR2HSV))

    white = (saturation < _GREY) & (value > _WHITE)
    border = np.ones_like(white)
    border[4:-4, 4:-4] = False
    if white[border].mean() < _WHITE_BORDER:
        return []
    guess = np.full(saturation.shape, cv2.GC_PR_BGD, np.uint8)
    guess[white] = cv2.GC_BGD
    guess[saturation > _COLOURED] = cv2.GC_PR_FGD
    guess[cv2.erode((saturation > _SURE).astype(np.uint8), np.ones((15, 15))) > 0] = cv2.GC_FGD
    guess[border] = cv2.GC_BGD
    if not (guess == cv2.GC_FGD).any():
        return []
    cv2.setRNGSeed(0)  # GrabCut starts its colour models at random
    cv2.grabCut(picture, guess, (0, 0, 1, 1), np.zeros((1, 65)), np.zeros((1, 65)), 4, cv2.GC_INIT_WITH_MASK)
    inside = ((guess == cv2.GC_FGD) | (guess == cv2.GC_PR_FGD)).astype(np.uint8)
    inside = np.asarray(cv2.morphologyEx(inside, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)), np.uint8)
    inside = np.ascontiguousarray(inside[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN])

    masks = []
    contours, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for contour in contours:
        filled = np.zeros_like(inside)
        cv2.drawContours(filled, [contour], -1, 1, -1)  # carved holes belong to the object
        if cv2.countNonZero(filled) < _MIN_AREA * filled.size:
            continue
        if not fills_hull(filled, _SOLIDITY):
            return []
        masks.append(cv2.resize(filled * 255, (width, height), interpolation=cv2.INTER_AREA) > 127)
    return masks
