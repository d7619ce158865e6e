"""Matterport's .h5 files: by layer name into a model and back, and what is wrong with those that do not fit."""

import shutil

import h5py
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pumpseg_train.matterport import weights_file
from pumpseg_train.matterport.weights_file import (
    CLASS_LAYERS,
    WeightsError,
    count_classes,
    load_weights,
    load_whole,
    read_names,
    read_weights,
    save_weights,
    write_names,
)
from pumpseg_train.model.hdf5_file import check_structure


def weights_of(model):
    return {
        f"{layer.name}/{w.name}": np.array(w)
        for part in model.parts.values()
        for layer in part.layers
        for w in layer.weights
    }


def test_a_file_gives_back_every_weight(written, make_model):
    model, path = written
    other = make_model(seed=2)
    loaded = load_weights(other, path)
    assert (len(loaded.loaded), loaded.left, loaded.ignored) == (133, (), ())
    wanted, found = weights_of(model), weights_of(other)
    assert wanted.keys() == found.keys()
    assert all((wanted[name] == found[name]).all() for name in wanted)


def test_the_file_is_laid_out_as_mrcnn_reads_it(written):
    model, path = written
    with h5py.File(path) as file:
        assert {"backend", "keras_version", "layer_names"} <= set(file.attrs)
        names = [name.decode() for name in file.attrs["layer_names"]]
        assert names[:4] == ["conv1", "bn_conv1", "res2a_branch2a", "bn2a_branch2a"]
        assert [name.decode() for name in file["bn_conv1"].attrs["weight_names"]] == [
            f"bn_conv1/{name}:0" for name in ("gamma", "beta", "moving_mean", "moving_variance")
        ]
        rpn = file["rpn_model"]
        assert [name.decode().split("/")[0] for name in rpn.attrs["weight_names"]][::2] == [
            "rpn_conv_shared",
            "rpn_class_raw",
            "rpn_bbox_pred",
        ]
        assert file["mrcnn_class_conv1/mrcnn_class_conv1/kernel:0"].shape == (7, 7, 16, 16)
        assert file["mrcnn_class_conv2/mrcnn_class_conv2/kernel:0"].shape == (1, 1, 16, 16)
        # y before x there, x before y here
        ours = model.trunk.get_layer("rpn_bbox_pred").get_weights()[1]
        assert (rpn["rpn_bbox_pred/bias:0"][:].reshape(-1, 4) == ours.reshape(-1, 4)[:, [1, 0, 3, 2]]).all()
    assert count_classes(read_weights(path)) == 2


def test_files_of_whole_models_are_read_as_well(written, make_model, tmp_path):
    with h5py.File(written[1]) as source, h5py.File(tmp_path / "whole.h5", "w") as whole:
        source.copy(source["/"], whole, name="model_weights")
        whole.create_group("optimizer_weights")
    loaded = load_weights(make_model(seed=2), tmp_path / "whole.h5")
    assert len(loaded.loaded) == 133


def add_layer(path, name, **arrays):
    """Adds a layer to a file, with these weights."""
    with h5py.File(path, "a") as file:
        write_names(file, "layer_names", [*read_names(file, "layer_names"), name])
        write_names(file.create_group(name), "weight_names", list(arrays))
        for weight, array in arrays.items():
            file[name][weight] = array


@pytest.mark.parametrize(
    ("name", "arrays"),
    [
        ("anchors", {"Variable:0": np.zeros((2, 4092, 4), np.float32)}),  # akTwelve, leekunhee
        ("anchors_layer", {"anchors:0": np.zeros((4092, 4), np.float64)}),
        ("rpn_class_loss", {}),
    ],
)
def test_what_forks_save_besides_weights_is_ignored(written, make_model, tmp_path, name, arrays):
    model, path = written
    fork = tmp_path / "fork.h5"
    shutil.copy(path, fork)
    add_layer(fork, name, **arrays)
    loaded = load_weights(make_model(seed=2), fork)
    assert (len(loaded.loaded), loaded.left, loaded.foreign) == (133, (), ())
    assert loaded.ignored == ((name,) if arrays else ())
    whole = load_whole(fork, model.profile, model.classes)
    wanted, found = weights_of(model), weights_of(whole)
    assert all((wanted[key] == found[key]).all() for key in wanted)


@pytest.mark.parametrize(
    "arrays",
    [
        {"kernel:0": np.zeros((3, 3, 16, 16), np.float32), "bias:0": np.zeros(16, np.float32)},
        {"kernel:0": np.zeros((16, 4), np.float32), "bias:0": np.zeros(4, np.float32)},
    ],
)
def test_weights_of_another_head_are_not_a_whole_model(written, tmp_path, arrays):
    model, path = written
    fork = tmp_path / "fork.h5"
    shutil.copy(path, fork)
    add_layer(fork, "keypoint_head", **arrays)
    with pytest.raises(WeightsError, match=r"is not a whole .*ignored in the file: keypoint_head"):
        load_whole(fork, model.profile, model.classes)


def test_excluded_layers_keep_their_initial_values_and_all_is_reported(written, make_model):
    other = make_model(("melon", "squash", "gourd"), seed=3)
    before = weights_of(other)
    loaded = load_weights(other, written[1], exclude=[*CLASS_LAYERS, "mrcnn_bbox"])
    assert set(loaded.left) == set(loaded.ignored) == set(CLASS_LAYERS)
    assert str(loaded).startswith("130 layers loaded; left at their initial values: ")
    changed = {name.split("/")[0] for name, value in weights_of(other).items() if not (value == before[name]).all()}
    assert not changed & set(CLASS_LAYERS)
    assert {"conv1", "rpn_bbox_pred", "mrcnn_class_conv1"} <= changed


def copy_changed(path, target, change):
    shutil.copy(path, target)
    with h5py.File(target, "r+") as file:
        change(file)
    return target


def other_network(file):
    for name in list(file):
        del file[name]
    file.create_group("dense_1").attrs["weight_names"] = [b"dense_1/kernel:0"]
    file["dense_1"]["dense_1/kernel:0"] = np.zeros((2, 2))
    file.attrs["layer_names"] = [b"dense_1"]


def other_shape(file):
    del file["conv1"]["conv1/kernel:0"]
    file["conv1"]["conv1/kernel:0"] = np.zeros((3, 3, 3, 64), np.float32)


def deeper(file):
    names = list(file.attrs["layer_names"])
    for letter in "ghijklmnopqrstuvw":
        name = f"res4{letter}_branch2a"
        file.copy(file["res4b_branch2a"], file, name=name)
        names.append(name.encode())
    file.attrs["layer_names"] = names


def missing_tensor(file):
    del file["conv1"]["conv1/bias:0"]


def without_names(file):
    del file.attrs["layer_names"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_network, r"is of another network: none of its 1 layers \(dense_1, ...\) is one of mrcnn's"),
        (other_shape, r"layer conv1 has the shapes \[\[3, 3, 3, 64\], \[64\]\], not \[\[7, 7, 3, 64\], \[64\]\]"),
        (deeper, "is of a resnet101, profile matterport-resnet101, not a resnet50"),
        (missing_tensor, "damaged or cut short"),
        (without_names, "not a weights file of Keras 2 as mrcnn writes them"),
    ],
)
def test_files_that_do_not_fit_are_refused_and_the_model_is_untouched(written, tmp_path, change, message, make_model):
    model = make_model(seed=4)
    before = weights_of(model)
    with pytest.raises(WeightsError, match=message):
        load_weights(model, copy_changed(written[1], tmp_path / "other.h5", change))
    assert all((value == before[name]).all() for name, value in weights_of(model).items())


def test_truncated_missing_and_foreign_files_are_refused(written, make_model, tmp_path):
    model = make_model(seed=4)
    cut = tmp_path / "cut.h5"
    cut.write_bytes(written[1].read_bytes()[:-1000])
    with pytest.raises(WeightsError, match=r"cut\.h5 cannot be read, it may be damaged or cut short: .*truncated"):
        load_weights(model, cut)
    (tmp_path / "text.h5").write_text("no weights")
    with pytest.raises(WeightsError, match=r"text\.h5 cannot be read"):
        load_weights(model, tmp_path / "text.h5")
    with pytest.raises(WeightsError, match="no weights file"):
        load_weights(model, tmp_path / "none.h5")


def names_of(file, group, attribute, names):
    del file[group].attrs[attribute]
    file[group].attrs[attribute] = names


def soft_link_for_a_layer(file):
    file.move("conv1", "old")
    file["conv1"] = h5py.SoftLink("/old")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.update(outside=h5py.ExternalLink("/etc/passwd", "/")), "'outside' is a link"),
        (soft_link_for_a_layer, "'conv1' is a link"),
        (lambda file: file["conv1"].update(again=file), "in it several times"),
        (lambda file: file.create_dataset("huge", (1 << 50,), "f4", chunks=(1024,)), "20 times as large"),
        (lambda file: file.create_dataset("text", data=[b"x"]), "not of numbers"),
        (lambda file: names_of(file, "conv1", "weight_names", "conv1/kernel:0"), "weight_names is not a list of names"),
        (lambda file: names_of(file, "conv1", "weight_names", 7), "weight_names is not a list of names"),
        (
            lambda file: names_of(file, "conv1", "weight_names", [["conv1/kernel:0"]]),
            "weight_names is not a list of names",
        ),
        (lambda file: names_of(file, "conv1", "weight_names", [b"conv1"]), "conv1 is not an array"),
        (lambda file: names_of(file, "conv1", "weight_names", [b"conv1/kernel:0"] * 1000), "named twice"),
        (
            lambda file: names_of(file, "conv1", "weight_names", [b"conv1/kernel:0", b"/conv1/conv1//kernel:0"]),
            "named twice",
        ),
        (lambda file: names_of(file, "conv1", "weight_names", [b"\xff"]), "cannot be read"),
        (lambda file: names_of(file, "/", "layer_names", [b"conv1", b"conv1/conv1/kernel:0/x"]), "cannot be read"),
        (lambda file: names_of(file, "/", "layer_names", b"conv1"), "layer_names is not a list of names"),
    ],
)
def test_hostile_files_are_one_line(written, tmp_path, change, message, monkeypatch):
    monkeypatch.setattr(weights_file, "check_hdf5_file", check_structure)  # spares a process for each
    path = tmp_path / "hostile.h5"
    shutil.copy(written[1], path)
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(WeightsError, match=message) as error:
        read_weights(path)
    assert "\n" not in str(error.value)


def test_another_number_of_classes_is_reported_with_what_to_do(written, make_model):
    with pytest.raises(
        WeightsError, match=r"knows 2 classes and the background, here are 3 .*exclude mrcnn_class_logits"
    ):
        load_weights(make_model(("a", "b", "c"), seed=4), written[1])
    with pytest.raises(WeightsError, match="there is no layer mrcnn_clas_logits to exclude"):
        load_weights(make_model(seed=4), written[1], exclude=["mrcnn_clas_logits"])


def test_nothing_is_left_where_a_file_cannot_be_written(written, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("disk full")

    monkeypatch.setattr(weights_file, "write_names", fail)
    with pytest.raises(RuntimeError):
        save_weights(written[0], tmp_path / "new.h5")
    assert not list(tmp_path.iterdir())


@given(st.lists(st.text("abcäß_0123456789/", min_size=1, max_size=40), min_size=1, max_size=60), st.integers(100, 2000))
@example(["0", "0", "0", "0", "0" * 24 + "ß" * 5], 100)
@settings(max_examples=30, deadline=None)
def test_long_lists_of_names_are_cut_as_keras_cuts_them(tmp_path_factory, names, limit):
    path = tmp_path_factory.mktemp("names") / "names.h5"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights_file, "_ATTRIBUTE_LIMIT", limit)
        with h5py.File(path, "w") as file:
            weights_file.write_names(file, "layer_names", names)
            assert all(value.nbytes <= limit for value in file.attrs.values())
    with h5py.File(path) as file:
        assert weights_file.read_names(file, "layer_names") == names
