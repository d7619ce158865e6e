"""Profiles of configurations, and what they cannot have."""

import numpy as np
import pytest

from pumpseg_train.matterport import Config
from pumpseg_train.matterport.config import ConfigError, to_profile


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("BACKBONE", lambda image: image, "BACKBONE = .* is not supported, only resnet50 and resnet101"),
        ("IMAGE_RESIZE_MODE", "pad64", "IMAGE_RESIZE_MODE = 'pad64' is not supported, only 'square'"),
        ("IMAGE_MAX_DIM", 1000, "IMAGE_MAX_DIM = 1000 must be a multiple of 64, such as 1024"),
        ("MASK_SHAPE", [56, 56], r"MASK_SHAPE = \[56, 56\] must be twice MASK_POOL_SIZE = 14"),
        ("RPN_ANCHOR_SCALES", (8, 16, 32), "3 anchor levels"),
    ],
)
def test_settings_without_an_equal_are_named(name, value, message, tiny_config):
    with pytest.raises(ConfigError, match=message):
        to_profile(type("Odd", (tiny_config,), {name: value})())


def test_a_config_becomes_a_profile():
    class Own(Config):
        BACKBONE = "resnet101"
        IMAGE_MIN_DIM, IMAGE_MAX_DIM = 512, 640
        RPN_ANCHOR_SCALES = (8, 16, 32, 64, 128)
        BBOX_STD_DEV = np.array([0.1, 0.2, 0.3, 0.4])
        DETECTION_MIN_CONFIDENCE = 0.5

    profile = to_profile(Own())
    assert (profile.backbone, profile.input_size, profile.letterbox.min_side) == ("resnet101", (640, 640), 512)
    assert profile.anchor_sizes == ((8,), (16,), (32,), (64,), (128,))
    assert profile.box_deltas_std == (0.2, 0.1, 0.4, 0.3), "x before y"
    assert profile.score_threshold == 0.5
