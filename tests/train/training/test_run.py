"""A run on disk: its settings, its checkpoint, and what is wrong with either."""

import dataclasses
import shutil

import h5py
import numpy as np
import pytest

from pumpseg_train.training.run import RunError, Settings, load_run, make_settings, read_settings, write_settings


def test_load_run_gives_the_saved_weights(tiny_run, saved_arrays):
    model = load_run(tiny_run)
    assert model.classes == ("pumpkin",)
    assert model.profile.input_size == (96, 96)
    saved = saved_arrays(tiny_run)
    for layer in ("box_fc1", "class_logits"):
        kernel = np.array(model.box_head.get_layer(layer).kernel)
        assert any(array.shape == kernel.shape and np.array_equal(array, kernel) for array in saved)


def test_damaged_settings_are_reported(tmp_path):
    path = tmp_path / "settings.toml"
    for text, message in (
        ("data = ", r"settings[.]toml is not valid TOML"),
        ("a = " + "[" * 10_000, "nested too deeply"),
        ("epochs = " + "9" * 10_000, r"settings[.]toml is not valid TOML"),
        ("epochs = 9" + "_" * 9, r"settings[.]toml is not valid TOML"),
        ('data = "x"\ncolour = 1', "there is no setting 'colour'"),
        ('data = "x"\n[augmentation]\nmosaic = 1', "there is no setting 'augmentation.mosaic'"),
        ("epochs = 3", "data: field required"),
    ):
        path.write_text(text)
        with pytest.raises(RunError, match=message):
            read_settings(tmp_path)
    path.write_text('data = "x"')
    with pytest.raises(RunError, match="names no classes"):
        load_run(tmp_path)


def test_a_data_set_named_another_way_is_the_same(tiny_settings, fruit, tmp_path, monkeypatch):
    settings = dataclasses.replace(tiny_settings, backgrounds=(str(fruit),))
    write_settings(tmp_path / "run", settings, ("pumpkin",))
    monkeypatch.chdir(fruit.parent)
    named_shortly = dataclasses.replace(settings, data=f"./{fruit.name}/train/..", backgrounds=(fruit.name,))
    write_settings(tmp_path / "run", named_shortly, ("pumpkin",))
    with pytest.raises(RunError, match="another backgrounds"):
        write_settings(tmp_path / "run", dataclasses.replace(settings, backgrounds=("other",)), ("pumpkin",))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"profile": "x"}, "unknown profile 'x'"), ({"input_size": 100}, "multiples of 32")],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(RunError, match=message):
        Settings(data="", **change).to_profile()


def settings_with(**changes):
    return make_settings({"data": "x", **changes})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "epochs: input should be greater than 0, not 0"),
        ({"seed": -1}, "seed: input should be greater than or equal to 0, not -1"),
        ({"learning_rate": "fast"}, "learning_rate: input should be a valid number.*not 'fast'"),
        ({"precision": "int8"}, "precision: input should be 'float32'"),
        ({"augmentation": {"photo_scale": [1.0]}}, r"augmentation\.photo_scale"),
        ({"colour": 1}, "there is no setting 'colour'"),
        ({"augmentation": {"negative_prob": 0.9}}, r"negative_prob \+ paste_prob \+ aux_prob = 1\.35 is more than 1"),
        ({"augmentation": {"mosaic_prob": -0.1}}, r"mosaic_prob = -0\.1 is not in 0\.\.1"),
        ({"augmentation": {"stretch": 0}}, "stretch = 0"),
        ({"augmentation": {"photo_scale": [2, 1]}}, r"photo_scale = 2\.0, 1\.0 must be above 0 and rise"),
    ],
)
def test_impossible_settings_are_one_line(values, message):
    with pytest.raises(RunError, match=message) as raised:
        settings_with(**values)
    assert "\n" not in str(raised.value)


def test_a_folder_that_is_not_a_run_and_an_unfinished_run_are_named(tmp_path, tiny_run):
    with pytest.raises(RunError, match="is not a training run"):
        load_run(tmp_path)
    shutil.copy(tiny_run / "settings.toml", tmp_path)
    with pytest.raises(RunError, match="no checkpoint yet"):
        load_run(tmp_path)


def test_hostile_and_damaged_weights_are_one_line(tmp_path, tiny_run):
    for name in ("settings.toml", "best.weights.h5"):
        shutil.copy(tiny_run / name, tmp_path)
    weights = tmp_path / "best.weights.h5"
    with h5py.File(weights, "a") as file:
        file["elsewhere"] = h5py.ExternalLink("other.h5", "/")
    with pytest.raises(RunError, match="cannot be loaded: 'elsewhere' is a link") as raised:
        load_run(tmp_path)
    assert "\n" not in str(raised.value)
    with h5py.File(weights, "w") as file:
        file["layers"] = np.zeros(3)  # no group: Keras indexes it by name
    with pytest.raises(RunError, match="cannot be loaded") as raised:
        load_run(tmp_path)
    assert "\n" not in str(raised.value)
    weights.write_bytes((tiny_run / weights.name).read_bytes()[:-1000])
    with pytest.raises(RunError, match="cannot be loaded") as raised:
        load_run(tmp_path)
    assert "\n" not in str(raised.value)
