from dataclasses import replace

import numpy as np
import pytest

from pumpseg import Instances, draw
from pumpseg.drawing import PALETTE, UNCONFIRMED_COLOUR, instance_colours
from pumpseg.errors import OptionError
from pumpseg.instances import UNCONFIRMED


def three_instances(frame_size=(240, 320)):
    height, width = frame_size
    unit = np.array([width, height, width, height], np.float32)
    boxes = np.array([[0.6, 0.2, 0.9, 0.8], [0.05, 0.5, 0.3, 0.9], [0.35, 0.4, 0.5, 0.6]], np.float32) * unit
    return Instances.in_frame(
        boxes,
        np.array([0.9, 0.8, 0.7], np.float32),
        np.zeros(3, np.int64),
        np.ones((3, 28, 28), np.float32),
        frame_size,
        ["pumpkin"],
    )


@pytest.mark.parametrize("frame_size", [(240, 320), (1080, 1920), (20, 20), (3, 400)])
def test_drawing_leaves_the_frame_as_it_is(frame_size):
    frame = np.full((*frame_size, 3), 60, np.uint8)
    drawn = draw(frame, three_instances(frame_size))
    assert (frame == 60).all()
    assert drawn.shape == frame.shape
    assert (drawn != frame).any()


def test_only_boxes_and_labels_are_touched():
    frame = np.full((240, 320, 3), 60, np.uint8)
    drawn = draw(frame, three_instances()[1])
    assert (drawn[:80] == 60).all()
    assert (drawn[:, 160:] == 60).all()


def test_labels_can_be_given_or_left_out():
    frame = np.full((240, 320, 3), 60, np.uint8)
    instance = three_instances()[1]
    plain, named, longer = (draw(frame, instance, [text]) for text in ("", "pear", "a large pear"))
    tags = [(drawn != plain).any(axis=2) for drawn in (draw(frame, instance), named, longer)]
    assert all(tag.any() for tag in tags)
    assert tags[2].sum() > tags[1].sum()


def test_no_instances_leave_an_equal_frame():
    frame = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    drawn = draw(frame, Instances.empty((48, 64)))
    assert drawn is not frame
    np.testing.assert_array_equal(drawn, frame)


def test_a_mask_without_a_pixel_is_drawn_as_a_label_only():
    instances = three_instances()
    instances = replace(instances, cells=replace(instances.cells, probabilities=np.zeros((3, 28, 28), np.float32)))
    frame = np.zeros((240, 320, 3), np.uint8)
    drawn = draw(frame, instances)
    assert (drawn != draw(frame, instances, [""] * 3)).any(), "the labels"
    for x1, y1, x2, y2 in instances.boxes.astype(int):
        inside = drawn[y1 + 30 : y2 - 10, x1 + 10 : x2 - 10]
        assert not inside.any(), "no mask"


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (None, "was the image read at all"),
        (np.zeros((240, 320, 3), np.float32), "must be uint8"),
        (np.zeros((240, 320), np.uint8), "got grey"),
        (np.zeros((120, 160, 3), np.uint8), "the frame is 160x120, its instances were found in one of 320x240"),
    ],
)
def test_another_array_than_the_frame_is_refused(frame, message):
    with pytest.raises(ValueError, match=message):
        draw(frame, three_instances())


def test_colours_do_not_follow_the_order_of_scores():
    instances = three_instances()
    swapped = instances[[2, 0, 1]]
    colours = dict(zip(instances.scores.tolist(), instance_colours(instances), strict=True))
    assert colours == dict(zip(swapped.scores.tolist(), instance_colours(swapped), strict=True))
    assert len(set(colours.values())) == 3


def test_colours_follow_ids():
    instances = three_instances().with_track_ids(np.array([7, 3, 17]))
    assert instance_colours(instances) == [PALETTE[7], PALETTE[3], PALETTE[7]]
    unconfirmed = instances.with_track_ids(np.full(3, UNCONFIRMED))
    assert instance_colours(unconfirmed, "track") == [UNCONFIRMED_COLOUR] * 3


def test_a_class_keeps_its_colour_where_there_are_several():
    fruits = replace(three_instances(), class_ids=np.array([1, 0, 1]), class_names=("apple", "pear"))
    assert instance_colours(fruits) == instance_colours(fruits, "class") == [PALETTE[1], PALETTE[0], PALETTE[1]]
    assert instance_colours(fruits[0]) == [PALETTE[1]], "whatever else is in the frame"
    assert instance_colours(fruits, "instance") == instance_colours(three_instances())
    assert len(set(instance_colours(three_instances(), "class"))) == 1


@pytest.mark.parametrize(
    ("color", "message"),
    [("red", "unknown color 'red'; there are auto, class, instance, track"), ("track", "needs track ids")],
)
def test_a_color_that_cannot_be(color, message):
    with pytest.raises(OptionError, match=message):
        draw(np.zeros((240, 320, 3), np.uint8), three_instances(), color=color)


def test_tags_and_contours_can_be_left_out():
    frame = np.full((240, 320, 3), 60, np.uint8)
    instances = three_instances()
    no_tags, masks = draw(frame, instances, False), draw(frame, instances, masks_only=True)
    np.testing.assert_array_equal(no_tags, draw(frame, instances, [""] * 3))
    changed = (masks != frame).any(axis=2)
    np.testing.assert_array_equal(changed, instances.masks.any(axis=0))
    colours = {tuple(colour) for colour in masks[changed].tolist()}
    assert len(colours) == 3, "one tint for each, and no contour"


def test_text_that_is_not_unicode_is_drawn():
    """OpenCV ends the process at a lone surrogate."""
    frame = np.full((120, 160, 3), 60, np.uint8)
    instances = three_instances(frame.shape[:2])
    drawn = draw(frame, instances, ["caf\udce9", "\ud800", "z"])
    np.testing.assert_array_equal(drawn, draw(frame, instances, ["caf?", "?", "z"]))
