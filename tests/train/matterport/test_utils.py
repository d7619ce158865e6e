"""`mrcnn.utils`: the values are those of mrcnn 0.2, which compared equal on 300 random examples."""

import numpy as np
import pytest

from pumpseg.errors import PumpsegError
from pumpseg_train.matterport import utils
from pumpseg_train.matterport.config import ConfigError


def rectangles(*boxes, size=(20, 30)):
    """Masks bool (H, W, N) of boxes y1 x1 y2 x2."""
    masks = np.zeros((*size, len(boxes)), bool)
    for number, (y1, x1, y2, x2) in enumerate(boxes):
        masks[y1:y2, x1:x2, number] = True
    return masks


LEFT, RIGHT, MIDDLE = (2, 3, 10, 9), (5, 15, 15, 25), (2, 5, 10, 11)


def test_boxes_are_those_of_the_masks():
    assert utils.extract_bboxes(rectangles(LEFT, RIGHT)).tolist() == [list(LEFT), list(RIGHT)]
    assert utils.extract_bboxes(np.zeros((4, 4, 1), bool)).tolist() == [[0, 0, 0, 0]]


def test_overlaps_of_boxes_and_masks():
    boxes = np.array([LEFT, MIDDLE, RIGHT])
    wanted = [[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]]
    assert np.allclose(utils.compute_overlaps(boxes, boxes), wanted)
    assert np.allclose(utils.compute_iou(boxes[0], boxes, 48, np.array([48, 48, 100])), wanted[0])
    masks = rectangles(LEFT, MIDDLE, RIGHT)
    assert np.allclose(utils.compute_overlaps_masks(masks, masks), wanted)
    assert utils.compute_overlaps_masks(masks[..., :0], masks).shape == (0, 3)


def test_suppression_keeps_the_best():
    boxes = np.array([LEFT, MIDDLE, RIGHT])
    assert utils.non_max_suppression(boxes, np.array([0.5, 0.9, 0.7]), 0.3).tolist() == [1, 2]
    assert utils.non_max_suppression(boxes, np.array([0.5, 0.9, 0.7]), 0.6).tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("shape", "min_dim", "window", "scale", "padding"),
    [
        ((40, 80), None, (16, 0, 48, 64), 0.8, [(16, 16), (0, 0), (0, 0)]),
        ((20, 30), None, (22, 17, 42, 47), 1.0, [(22, 22), (17, 17), (0, 0)]),
        ((20, 30), 40, (12, 2, 52, 62), 2.0, [(12, 12), (2, 2), (0, 0)]),
    ],
)
def test_an_image_is_fitted_into_a_square(shape, min_dim, window, scale, padding):
    image = np.full((*shape, 3), 200, np.uint8)
    fitted, found_window, found_scale, found_padding, crop = utils.resize_image(image, min_dim, 64, 0, "square")
    assert fitted.shape == (64, 64, 3)
    assert (found_window, found_scale, found_padding, crop) == (window, scale, padding, None)
    y1, x1, y2, x2 = window
    assert (fitted[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2] == 200).all()
    mask = utils.resize_mask(np.ones((*shape, 1), bool), scale, padding)
    assert utils.extract_bboxes(mask).tolist() == [list(window)]


def test_other_ways_to_resize():
    image = np.zeros((20, 30, 3), np.uint8)
    assert utils.resize_image(image, mode="none")[1:4] == ((0, 0, 20, 30), 1.0, [(0, 0), (0, 0), (0, 0)])
    with pytest.raises(ConfigError, match="mode='crop'"):
        utils.resize_image(image, 8, 64, mode="crop")


def test_small_masks_become_large_again():
    masks = rectangles(LEFT, RIGHT)
    boxes = utils.extract_bboxes(masks)
    small = utils.minimize_mask(boxes, masks, (16, 16))
    assert small.shape == (16, 16, 2)
    assert small.all()
    assert (utils.expand_mask(boxes, small, masks.shape) == masks).all()
    with pytest.raises(PumpsegError, match="mask 0 is empty"):
        utils.minimize_mask(np.zeros((1, 4), int), np.zeros((4, 4, 1), bool), (16, 16))


def example():
    """Truth and predictions: the left one right, the right one missed, one more beside it."""
    truth = rectangles(LEFT, RIGHT)
    predicted = rectangles((12, 0, 20, 8), LEFT)
    return (
        *(utils.extract_bboxes(truth), np.array([1, 1]), truth),
        *(utils.extract_bboxes(predicted), np.array([1, 1]), np.array([0.6, 0.9]), predicted),
    )


def test_matches_are_of_one_class_and_used_once():
    truths, predictions, overlaps = utils.compute_matches(*example())
    assert truths.tolist() == [0, -1]
    assert predictions.tolist() == [0, -1]
    assert overlaps.shape == (2, 2)
    boxes, _, masks, *rest = example()
    assert utils.compute_matches(boxes, np.array([2, 1]), masks, *rest)[1].tolist() == [-1, -1]


def test_ap():
    ap, precisions, recalls, overlaps = utils.compute_ap(*example())
    assert ap == 0.5
    assert precisions.tolist() == [1, 1, 0.5, 0]
    assert recalls.tolist() == [0, 0.5, 0.5, 1]
    assert overlaps[0, 0] == 1


def test_ap_over_a_range(capsys):
    assert utils.compute_ap_range(*example()) == 0.5
    assert "AP @0.50-0.95:\t 0.500" in capsys.readouterr().out
    assert utils.compute_ap_range(*example(), iou_thresholds=[0.75], verbose=0) == 0.5
    assert capsys.readouterr().out == ""


def test_recall():
    share, positive = utils.compute_recall(np.array([LEFT, MIDDLE]), np.array([LEFT, RIGHT]), 0.5)
    assert (share, positive.tolist()) == (0.5, [0, 1])
    assert utils.compute_recall(np.zeros((0, 4)), np.array([LEFT]), 0.5)[0] == 0


def test_weights_are_downloaded(tmp_path, capsys):
    source = tmp_path / "source.h5"
    source.write_bytes(b"weights")
    utils.download_trained_weights(tmp_path / "coco.h5", url=source.as_uri())
    assert (tmp_path / "coco.h5").read_bytes() == b"weights"
    assert "downloading" in capsys.readouterr().out
    with pytest.raises(PumpsegError, match=r"gone.h5 cannot be downloaded"):
        utils.download_trained_weights(tmp_path / "x.h5", url=(tmp_path / "gone.h5").as_uri())
    assert not (tmp_path / "x.h5").exists()
