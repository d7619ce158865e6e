"""Which anchors and RoIs learn what, by mrcnn's rules."""

import keras
import numpy as np
import tensorflow as tf

from pumpseg_train.matterport.targets import anchor_targets, mask_targets, roi_targets


def test_anchors_learn_by_mrcnns_rules():
    rng = np.random.default_rng(0)
    anchors = np.array(
        [[0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 5], [40, 40, 50, 50], [20, 20, 30, 30], [70, 70, 80, 80]]
    )
    boxes = np.array([[0, 0, 10, 10], [44, 44, 60, 60], [18, 18, 40, 40]], np.float32)
    match, truth = anchor_targets(anchors, boxes, np.array([2, 1, -1]), rng, samples=256)
    # 0.8 is positive, 0.5 neither; the best of an instance is forced; what touches a crowd is left out
    assert match.tolist() == [1, 1, 0, 1, 0, -1]
    assert truth[:4].tolist() == [0, 0, 0, 1]


def test_anchors_are_sampled_half_and_half():
    rng = np.random.default_rng(0)
    anchors = np.concatenate([np.tile([[0, 0, 10, 10]], (300, 1)), np.tile([[50, 50, 60, 60]], (900, 1))])
    match, _ = anchor_targets(anchors, np.array([[0, 0, 10, 10]], np.float32), np.array([1]), rng, samples=256)
    assert ((match == 1).sum(), (match == -1).sum()) == (128, 128)
    nothing, _ = anchor_targets(anchors, np.zeros((0, 4)), np.zeros(0, int), rng, samples=256)
    assert not nothing.any()


def test_rois_are_sampled_one_third_positive():

    rng = np.random.default_rng(0)
    truth = np.array([[[10, 10, 40, 40], [60, 60, 90, 90], [0, 0, 0, 0]]], np.float32)
    near = truth[0, 0] + rng.uniform(-2, 2, (20, 4))
    far = np.array([100, 5, 120, 30]) + rng.uniform(-2, 2, (100, 4))
    proposals = np.concatenate([near, far])[None].astype(np.float32)
    real = np.ones((1, 120), bool)
    chosen = roi_targets(
        proposals, real, truth, np.array([[2, 1, 0]]), keras.random.SeedGenerator(1), samples=200, positive_ratio=0.33
    )
    labels = np.array(chosen.class_ids)[0]
    boxes = np.array(chosen.boxes)[0]
    assert labels.shape == (200,)
    assert (labels == 2).sum() == 20
    assert (labels[:20] == 2).all(), "positives first"
    used = np.flatnonzero(boxes.any(axis=1))
    assert len(used) == 20 + (int(20 / 0.33) - 20)
    assert (np.array(chosen.truth_index)[0, :20] == 0).all()
    none = roi_targets(
        proposals[:, 20:],
        real[:, 20:],
        truth,
        np.array([[2, 1, 0]]),
        keras.random.SeedGenerator(1),
        samples=200,
        positive_ratio=0.33,
    )
    assert not np.array(none.boxes).any(), "no positive, no negative"


def test_mask_targets_are_cut_as_tensorflow_does():
    rng = np.random.default_rng(0)
    minis = (rng.random((1, 3, 56, 56)) > 0.5).astype(np.uint8)
    truth = np.array([[[10, 20, 60, 50], [0, 0, 127, 127], [5, 5, 25, 45]]], np.float32)
    boxes = truth + np.array([[[1.5, -4, -6, 3], [2, 3, -4, -5], [-3, -3, 3, 3]]], np.float32)
    index = np.array([[0, 1, 2]])
    found = np.array(mask_targets(boxes, truth, index, minis, 28))[0]
    for row in range(3):
        x1, y1, x2, y2 = truth[0, row]
        width, height = x2 - x1, y2 - y1
        bx1, by1, bx2, by2 = boxes[0, row]
        normalised = [[(by1 - y1) / height, (bx1 - x1) / width, (by2 - y1) / height, (bx2 - x1) / width]]
        wanted = tf.image.crop_and_resize(minis[0, row][None, ..., None].astype(np.float32), normalised, [0], (28, 28))
        assert (found[row] == np.round(wanted[0, ..., 0])).mean() > 0.99
