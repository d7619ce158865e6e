"""Shapes and order of what the networks give."""

import numpy as np

from pumpseg_train.model.boxes import anchors
from pumpseg_train.model.profile import EDGE


def test_features_have_strides_8_16_32(tiny_model):
    shapes = {name: tuple(value.shape) for name, value in tiny_model.trunk(np.zeros((1, 64, 96, 3))).items()}
    anchors = (8 * 12 + 4 * 6 + 2 * 3) * 9
    assert shapes == {
        "p3": (1, 8, 12, 96),
        "p4": (1, 4, 6, 96),
        "p5": (1, 2, 3, 96),
        "c4": (1, 4, 6, 112),
        "c5": (1, 2, 3, 320),
        "objectness": (1, anchors),
        "anchor_deltas": (1, anchors, 4),
    }


def test_objectness_is_ordered_as_the_anchors(tiny_model):
    """A spot of light raises or lowers the answers of the anchors around it, and of no others."""
    dark = np.zeros((1, 480, 640, 3), np.float32)
    spot = dark.copy()
    spot[:, 400:408, 80:88] = 255
    changed = np.abs(np.array(tiny_model.trunk(spot)["objectness"] - tiny_model.trunk(dark)["objectness"]))[0]
    boxes = anchors(EDGE, (480, 640))
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    finest = np.arange(len(boxes)) < 60 * 80 * 9
    for level in (finest, ~finest):
        strongest = centres[level][np.argsort(-changed[level])[:9]]
        assert np.abs(strongest - (84, 404)).max() < 64


def test_the_heads_answer_for_each_class_or_for_all_at_once(tiny_model):
    pooled = np.zeros((5, 7, 7, 96), np.float32)
    assert {name: tuple(value.shape) for name, value in tiny_model.box_head(pooled).items()} == {
        "class_logits": (5, 3),
        "box_deltas": (5, 4),
    }
    assert tuple(tiny_model.mask_head(np.zeros((5, 14, 14, 96), np.float32))["mask_logits"].shape) == (5, 28, 28)
