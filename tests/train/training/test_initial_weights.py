"""What a run starts from, and which layers are taken."""

import dataclasses

import numpy as np
import pytest

from pumpseg.errors import PumpsegError
from pumpseg.inference.model_file import find_model
from pumpseg_train.model.network import build_mask_rcnn
from pumpseg_train.model.profile import EDGE
from pumpseg_train.training import initial_weights
from pumpseg_train.training.initial_weights import initialise, save_general
from pumpseg_train.training.run import RunError, load_run


def weights_of(model):
    return {layer.name: layer.get_weights() for part in model.parts.values() for layer in part.layers if layer.weights}


@pytest.fixture
def pumpkins():
    return build_mask_rcnn(EDGE, ("pumpkin",), imagenet=True)


@pytest.fixture
def fruit_model():
    return build_mask_rcnn(EDGE, ("apple", "pear"), imagenet=True)


def test_a_run_of_the_same_classes_is_taken_whole(tiny_run, pumpkins):
    transfer = initialise(pumpkins, str(tiny_run))
    assert transfer.fresh == ()
    assert transfer.describe() == f"starting from {tiny_run}: all {len(transfer.taken)} layers"
    for name, values in weights_of(load_run(tiny_run)).items():
        for mine, theirs in zip(weights_of(pumpkins)[name], values, strict=True):
            assert np.array_equal(mine, theirs)


def test_other_classes_keep_a_fresh_class_layer_and_are_told_so(tiny_run, fruit_model):
    before = weights_of(fruit_model)["class_logits"]
    transfer = initialise(fruit_model, str(tiny_run))
    assert transfer.fresh == ("class_logits",)
    assert transfer.describe().endswith("randomly initialised: class_logits")
    assert np.array_equal(weights_of(fruit_model)["class_logits"][0], before[0])
    assert np.array_equal(weights_of(fruit_model)["box_fc1"][0], weights_of(load_run(tiny_run))["box_fc1"][0])


def test_as_many_other_classes_have_a_fresh_class_layer_too(tiny_run):
    melons = build_mask_rcnn(EDGE, ("melon",), imagenet=True)
    assert initialise(melons, str(tiny_run)).fresh == ("class_logits",)


def test_a_layer_of_another_shape_is_not_taken(tiny_run):
    wider = build_mask_rcnn(dataclasses.replace(EDGE, box_units=128), ("pumpkin",), imagenet=True)
    fresh = initialise(wider, str(tiny_run)).fresh
    assert set(fresh) == {"box_fc1", "box_fc2", "class_logits", "box_deltas"}


def test_imagenet_takes_nothing_else(pumpkins):
    before = weights_of(pumpkins)
    transfer = initialise(pumpkins, "imagenet")
    assert "randomly initialised: 21 layers" in transfer.describe()
    assert all(
        np.array_equal(a, b) for name in before for a, b in zip(before[name], weights_of(pumpkins)[name], strict=True)
    )


def test_a_shipped_model_gives_back_the_weights_it_was_exported_from(pumpkins):
    transfer = initialise(pumpkins, "fast")
    assert transfer.fresh == ()
    scale = weights_of(pumpkins)["stem"][0]
    imagenet = weights_of(build_mask_rcnn(EDGE, ("pumpkin",), imagenet=True))["stem"][0]
    assert np.allclose(scale, imagenet, rtol=2e-3, atol=1e-4), "training never changes the stem"


def test_general_weights_are_read_as_they_were_saved(tiny_run, tmp_path, monkeypatch, fruit_model):
    save_general(load_run(tiny_run), tmp_path / "general.npz")
    monkeypatch.setattr(initial_weights, "GENERAL_WEIGHTS", tmp_path / "general.npz")
    transfer = initialise(fruit_model, "general")
    assert transfer.fresh == ("class_logits",)
    for name in ("box_fc1", "mask_conv1", "rpn_objectness"):
        wanted = weights_of(load_run(tiny_run))[name][0].astype(np.float16)
        assert np.array_equal(weights_of(fruit_model)[name][0].astype(np.float16), wanted)


@pytest.mark.parametrize("source", ["nowhere", "missing.onnx"])
def test_an_unknown_source_is_refused_in_one_line(source, pumpkins):
    with pytest.raises(RunError, match=f"--init-from {source}: not general, imagenet, fast, accurate, an ONNX file"):
        initialise(pumpkins, source)


def test_an_int8_file_is_refused(pumpkins):
    int8 = find_model("fast").with_name("fast-int8.onnx")
    with pytest.raises(PumpsegError, match="name a float32 export"):
        initialise(pumpkins, str(int8))


def test_a_file_that_refers_to_others_is_refused(pumpkins, tmp_path):
    """The package onnx would read them."""
    import onnx

    model = onnx.load(find_model("fast"))
    model.graph.initializer[3].external_data.add(key="location", value="weights.bin")
    model.graph.initializer[3].data_location = onnx.TensorProto.EXTERNAL
    path = tmp_path / "hostile.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(PumpsegError, match=r"hostile\.onnx .* keeps data outside of itself"):
        initialise(pumpkins, str(path))


def test_nodes_that_make_no_sense_are_one_line(pumpkins, tmp_path):
    import onnx

    model = onnx.load(find_model("fast"))
    for node in model.graph.node:
        if node.op_type == "Cast":
            del node.input[:]
    path = tmp_path / "odd.onnx"
    onnx.save(model, path)
    with pytest.raises(PumpsegError, match=r"odd\.onnx cannot be read as an export") as error:
        initialise(pumpkins, str(path))
    assert "\n" not in str(error.value)
