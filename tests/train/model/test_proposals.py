"""Proposals, ranked as mrcnn ranks them where the profile says so."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from pumpseg_train.model import boxes as bx
from pumpseg_train.model.profile import MATTERPORT_RESNET50
from pumpseg_train.model.proposals import probability, propose, take_kept

SMALL = dataclasses.replace(MATTERPORT_RESNET50, input_size=(128, 128))


@given(st.floats(-80, 80, width=32), st.floats(-80, 80, width=32))
@settings(max_examples=200, deadline=None)
def test_the_rpn_is_as_sure_as_the_softmax_of_mrcnn_to_the_last_bit(background, foreground):
    pair = np.array([background, foreground], np.float32)
    wanted = float(tf.nn.softmax(pair)[1])
    found = float(probability(tf.constant(pair[1] - pair[0])))
    if foreground > background:
        assert abs(found - wanted) <= 2**-23, "two steps of float32 below 1: the two ways round exp() and the quotient"
        if wanted > 0.99999:
            assert found == wanted, "where float32 has few values left"
    assert found == pytest.approx(wanted, rel=1e-5, abs=1e-30)


def test_of_anchors_that_are_equally_likely_in_float32_the_first_comes_first():
    count = len(bx.anchors(SMALL, (128, 128)))
    logits = np.full((1, count), -9, np.float32)
    # Far apart from each other, so that none suppresses another; the later, the larger, but all are 1 in float32.
    sure = [3 * (32 * y + x) + 1 for y in (4, 12, 20, 28) for x in (4, 12, 20, 28)]
    logits[0, sure] = np.linspace(20, 60, len(sure))
    answers = {"objectness": logits, "anchor_deltas": np.zeros((1, count, 4), np.float32)}
    found = propose(answers, SMALL, (128, 128), candidates=len(sure), count=len(sure))
    assert np.allclose(found.boxes[0], np.clip(bx.anchors(SMALL, (128, 128))[sure], 0, 127))
    by_logit = dataclasses.replace(SMALL, compat=dataclasses.replace(SMALL.compat, rank_by_probability=False))
    found = propose(answers, by_logit, (128, 128), candidates=len(sure), count=len(sure))
    assert np.allclose(found.boxes[0], np.clip(bx.anchors(SMALL, (128, 128))[sure[::-1]], 0, 127))


def test_kept_rows_come_first_in_their_order():
    values = np.array([[5, 6, 7, 8]], np.float32)
    kept, real = take_kept(values[..., None], np.array([[False, True, False, True]]), 3)
    assert np.array(kept)[0, :2, 0].tolist() == [6, 8]
    assert np.array(real)[0].tolist() == [True, True, False]
