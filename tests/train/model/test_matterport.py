"""mrcnn's networks: as many parameters, layers of the same names."""

import dataclasses

import numpy as np
import pytest

from pumpseg_train.matterport.config import Config
from pumpseg_train.matterport.mask_rcnn import STAGES, MaskRCNN
from pumpseg_train.model import matterport
from pumpseg_train.model.profile import MATTERPORT_RESNET50, MATTERPORT_RESNET101


def test_the_figures_of_the_real_profiles():
    """Parameters of mrcnn 0.2, in all and of each stage of training (docs/matterport.md)."""

    class ThreeClasses(Config):
        NUM_CLASSES = 3
        BACKBONE = "resnet50"

    model = MaskRCNN("training", ThreeClasses(), "logs")
    assert sum(part.count_params() for part in model.network.parts.values()) == 44_662_942 + 5_382
    wanted = {
        "heads": (54, 21_074_468),
        "5+": (94, 36_050_468),
        "4+": (170, 43_159_076),
        "3+": (222, 44_382_244),
        "all": (266, 44_609_060),
    }
    found = {}
    for stage, expression in STAGES.items():
        model.choose_layers(expression)
        trained = [weight for part in model.network.parts.values() for weight in part.trainable_weights]
        found[stage] = len(trained), sum(int(np.prod(weight.shape)) for weight in trained)
    assert found == wanted


def test_profiles_differ_in_depth_only():
    same = dataclasses.replace(MATTERPORT_RESNET101, name="matterport-resnet50", backbone="resnet50")
    assert same == MATTERPORT_RESNET50


@pytest.mark.parametrize("classes", [1, 3])
def test_the_heads_answer_for_each_class_and_the_background(narrow_matterport, classes):
    pooled = np.zeros((2, 7, 7, 16), np.float32)
    heads = matterport.box_head(narrow_matterport, classes)(pooled)
    assert {name: tuple(value.shape) for name, value in heads.items()} == {
        "class_logits": (2, classes + 1),
        "box_deltas": (2, classes + 1, 4),
    }
    masks = matterport.mask_head(narrow_matterport, classes)(np.zeros((2, 14, 14, 16), np.float32))["mask_logits"]
    assert tuple(masks.shape) == (2, classes + 1, 28 * 28)
