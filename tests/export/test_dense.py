"""The conversion of one dense network."""

import keras
import numpy as np
import pytest

from pumpseg.errors import PumpsegError
from pumpseg_export import dense
from pumpseg_export.dense import convert_dense


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


def test_another_backend_is_refused(monkeypatch, tiny_model):
    monkeypatch.setattr(dense.keras.backend, "backend", lambda: "jax")
    with pytest.raises(PumpsegError, match=r"not jax: set KERAS_BACKEND=tensorflow"):
        convert_dense(tiny_model.box_head, (None, 7, 7, 96))
