"""The conversion of one dense network."""

import keras
import numpy as np
import pytest

from pumpseg.errors import PumpsegError
from pumpseg_export import dense
from pumpseg_export.dense import convert_dense, split_pointwise
from pumpseg_train.model.network import build_mask_rcnn


def test_a_dense_network_gives_named_channels_first_outputs(run_graph):
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 3))
    features = keras.layers.Conv2D(5, 3, padding="same", name="conv")(image)
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(features)
    # Not in alphabetical order, which is the one that Keras sorts by.
    model = keras.Model(image, {"zebra": features, "ant": pooled}, name="dense")
    picture = np.random.default_rng(0).normal(size=(1, 8, 12, 3)).astype(np.float32)
    wanted = model(picture)

    converted = convert_dense(model, (1, 8, 12, 3))
    assert [place.name for place in converted.graph.input] == ["input"]
    found = run_graph(converted, picture.transpose(0, 3, 1, 2).copy())
    assert list(found) == ["ant", "zebra"]
    assert np.allclose(found["ant"], wanted["ant"], atol=1e-5)
    assert np.allclose(found["zebra"].transpose(0, 2, 3, 1), wanted["zebra"], atol=1e-5)
    assert not [node for node in converted.graph.node if node.op_type == "Transpose"]


def test_a_head_is_split_after_its_1x1_convolution(tiny_model):
    whole = tiny_model.box_head
    pooled = np.random.default_rng(0).normal(size=(3, *whole.input.shape[1:])).astype(np.float32)
    pointwise, rest = split_pointwise(whole)
    reduced = pointwise(pooled)
    assert reduced.shape[-1] < pooled.shape[-1]
    assert (np.asarray(reduced) < 0).any(), "not yet activated"
    for name, wanted in whole(pooled).items():
        np.testing.assert_allclose(rest(reduced)[name], wanted, atol=1e-5)


def test_a_head_that_begins_otherwise_is_not_split(narrow_matterport):
    model = build_mask_rcnn(narrow_matterport, ("balloon",))
    assert split_pointwise(model.box_head) is None
    assert split_pointwise(model.mask_head) is None


def test_another_backend_is_refused(monkeypatch, tiny_model):
    monkeypatch.setattr(dense.keras.backend, "backend", lambda: "jax")
    with pytest.raises(PumpsegError, match=r"not jax: set KERAS_BACKEND=tensorflow"):
        convert_dense(tiny_model.box_head, (None, 7, 7, 96))
