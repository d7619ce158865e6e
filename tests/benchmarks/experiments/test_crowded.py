"""The times of frames by what is in view: how photos and kernels are sorted."""

import numpy as np
import pytest


@pytest.fixture
def crowded(load_script):
    return load_script("crowded")


def kernel(name, kind, milliseconds=1, shape=(1,)):
    return {"name": name, "dur": milliseconds, "args": {"op_name": kind, "output_type_shape": [{"float": list(shape)}]}}


def test_photos_are_sorted_by_what_is_in_view(crowded):
    assert crowded.bins_of([0, 25, 1, 100, 39]) == {(0, 1): [0, 2], (20, 39): [1, 4], (70, 100): [3]}


def test_every_kernel_belongs_to_one_step(crowded):
    events = [
        kernel("trunk/Conv__291_kernel_time", "QLinearConv", 6),
        kernel("fused box_head/box_fc1/MatMul_kernel_time", "FusedGemm", 2),
        kernel("RoiAlign_1_kernel_time", "RoiAlign", 1, (300, 48, 7, 7)),
        kernel("RoiAlign_2_kernel_time", "RoiAlign", 3, (30, 96, 14, 14)),
        kernel("NonMaxSuppression_3_kernel_time", "NonMaxSuppression", 4),
        kernel("Concat_4_kernel_time", "Concat", 4),
    ]
    shares = crowded.shares_of(events)
    assert shares == {
        "trunk": 0.3,
        "box head": 0.1,
        "RoIAlign for boxes": 0.05,
        "RoIAlign for masks": 0.15,
        "NMS": 0.2,
        "the rest": 0.2,
    }
    assert shares.keys() <= set(crowded.STEPS)


def test_pictures_keep_their_shape(crowded):
    assert crowded.scaled(np.zeros((100, 400, 3), np.uint8)).shape == (160, 640, 3)
    assert crowded.scaled(np.zeros((960, 640, 3), np.uint8)).shape == (480, 320, 3)
