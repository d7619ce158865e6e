"""Outlines of objects on white, against truth that is known."""

import cv2
import numpy as np
import pytest

from pumpseg_train.autolabel.white_background import objects_on_white

ORANGE = (20, 120, 230)  # BGR


def grey_background(picture):
    return np.where(picture > 245, np.uint8(150), picture)


def iou(a, b):
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


def test_objects_on_white_are_outlined_without_their_shadows(on_white):
    picture, wanted = on_white((60, 100, 40, 50), (170, 110, 45, 40))
    found = sorted(objects_on_white(picture), key=lambda mask: np.argwhere(mask)[:, 1].mean())
    assert [mask.shape for mask in found] == [(200, 240)] * 2
    assert min(iou(a, b) for a, b in zip(found, wanted, strict=True)) > 0.95


def test_what_is_carved_out_belongs_to_the_object(on_white):
    picture, (wanted,) = on_white((120, 100, 70, 60))
    cv2.circle(picture, (100, 90), 10, (250, 250, 250), -1)
    (found,) = objects_on_white(picture)
    assert iou(found, wanted) > 0.95


@pytest.mark.parametrize(
    "picture",
    [
        lambda draw: draw((80, 100, 45, 50), (160, 100, 45, 50))[0],
        lambda draw: np.full((100, 120, 3), 250, np.uint8),
        lambda draw: np.full((100, 120, 3), ORANGE, np.uint8),
        lambda draw: grey_background(draw((120, 100, 70, 60))[0]),
    ],
    ids=["touching", "nothing", "no background", "on grey"],
)
def test_doubtful_photos_are_left_out(picture, on_white):
    assert objects_on_white(picture(on_white)) == []


def test_the_same_photo_gives_the_same_mask(on_white):
    picture, _ = on_white((120, 100, 70, 60))
    first, again = (objects_on_white(picture)[0] for _ in range(2))
    assert np.array_equal(first, again)
