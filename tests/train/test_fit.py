"""A run of a few steps: what it leaves on disk, what it saves, and that a crash changes nothing."""

import csv
import dataclasses
import json
import shutil

import h5py
import keras
import numpy as np
import pytest

from pumpseg.errors import DatasetError
from pumpseg_train import fit as fit_module
from pumpseg_train.fit import LayerwiseAdamW, fit
from pumpseg_train.run import RunError, Settings, load_run, read_settings


def history(run):
    with (run / "history.csv").open() as file:
        return list(csv.DictReader(file))


def recorded(trainer):
    """The trainable weights of a trainer, and the moving averages that its optimizer keeps of them."""
    optimizer = trainer.optimizer
    return (
        [np.array(variable) for variable in trainer.trainable_variables],
        [np.array(variable) for variable in optimizer._model_variables_moving_average],
    )


def distance(some, others):
    return np.mean([np.abs(a - b).mean() for a, b in zip(some, others, strict=True)])


def test_run_leaves_its_settings_best_weights_and_history(tiny_run, tiny_settings):
    assert sorted(path.name for path in tiny_run.iterdir()) == [
        "best.json",
        "best.weights.h5",
        "finished",
        "history.csv",
        "settings.json",
    ]
    content = json.loads((tiny_run / "settings.json").read_text())
    assert content["classes"] == ["pumpkin"]
    assert content["settings"]["input_size"] == 96
    assert read_settings(tiny_run) == tiny_settings
    rows = history(tiny_run)
    assert [row["epoch"] for row in rows] == ["0", "1"]
    losses = {"loss", "rpn_class", "rpn_box", "class", "box", "mask"}
    assert set(rows[0]) == losses | {"epoch", "val_mask_ap", "val_mask_ap50", "val_box_ap", "val_box_ap50"}
    assert all(np.isfinite(float(row[name])) for row in rows for name in losses)


def test_best_json_is_plain_json_with_the_figures_of_one_epoch(tiny_run):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    best = json.loads((tiny_run / "best.json").read_text(), parse_constant=refuse)
    row = history(tiny_run)[best["epoch"] - 1]
    assert best["mask"]["ap"] == pytest.approx(float(row["val_mask_ap"]))
    assert best["mask"]["large"] in (None, 0)  # no fruit of that size in the data


def test_each_epoch_draws_its_own_batches(tiny_training):
    # Keras asks for the first batches once more, to see their shapes, before the first epoch.
    assert sorted(tiny_training.drawn[-4:]) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_load_run_gives_the_saved_weights(tiny_run):
    model = load_run(tiny_run)
    assert model.classes == ("pumpkin",)
    assert model.profile.input_size == (96, 96)
    saved = h5py_arrays(tiny_run / "best.weights.h5")
    for layer in ("box_fc1", "class_logits"):
        kernel = np.array(model.box_head.get_layer(layer).kernel)
        assert any(array.shape == kernel.shape and np.array_equal(array, kernel) for array in saved)


def h5py_arrays(path):
    with h5py.File(path) as file:
        arrays = []
        file.visititems(lambda _, item: arrays.append(item[()]) if isinstance(item, h5py.Dataset) else None)
    return arrays


def test_an_interrupted_run_ends_as_if_nothing_had_happened(
    tiny_training, tiny_settings, tmp_path, monkeypatch, step_by_step
):
    run = tmp_path / "run"
    trainers, drawn = [], []
    tiny_training.spy(monkeypatch, trainers, drawn)

    # In the validation of the first epoch: the epoch is done again.
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fit_module, "evaluate", interrupt)
        fit(tiny_settings, run, verbose=0)
    assert not history(run)

    # In the second epoch.
    before = {}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):

        def second_epoch(callback, batch, logs=None):
            if callback._batches.epoch == 0:
                before["trainer"] = recorded(callback.model)
            else:
                interrupt()

        patch.setattr(fit_module._RandomOrder, "on_train_batch_end", second_epoch)
        fit(tiny_settings, run, verbose=0)
    assert [row["epoch"] for row in history(run)] == ["0"]
    assert (run / "state").is_dir()
    weights, averages = before["trainer"]
    saved = recorded_best(run)
    assert distance(saved, averages) < 0.1 * distance(saved, weights), "the moving average is what is saved"

    drawn.clear()
    fit(tiny_settings, run, verbose=0)
    assert {epoch for epoch, _ in drawn[-2:]} == {1}
    assert len([pair for pair in drawn if pair[0] == 1]) == 2
    assert not (run / "state").exists()
    for row, wanted in zip(history(run), history(tiny_training.folder), strict=True):
        assert {name: float(value) for name, value in row.items()} == pytest.approx(
            {name: float(value) for name, value in wanted.items()}, rel=2e-3, abs=1e-6
        )
    finished = [np.array(variable) for variable in trainers[-1].trainable_variables]
    wanted = [np.array(variable) for variable in tiny_training.trainer.trainable_variables]
    start = [np.array(variable) for variable in fresh_weights(trainers[-1])]
    assert distance(finished, wanted) < 0.05 * distance(wanted, start)


def interrupt(*_):
    raise KeyboardInterrupt


def recorded_best(run):
    model = load_run(run)
    return [np.array(v) for part in (model.trunk, model.box_head, model.mask_head) for v in part.trainable_variables]


def fresh_weights(trainer):
    from pumpseg_train.model.network import build_mask_rcnn

    keras.utils.set_random_seed(5)
    model = build_mask_rcnn(trainer.mask_rcnn.profile, trainer.mask_rcnn.classes, imagenet=True)
    return [v for part in (model.trunk, model.box_head, model.mask_head) for v in part.trainable_variables]


def test_other_settings_for_the_same_folder_are_refused(tiny_run, tiny_settings):
    with pytest.raises(RunError, match=r"another batch_size, seed: give the same options .* or another --out"):
        fit(dataclasses.replace(tiny_settings, seed=6, batch_size=3), tiny_run)


def test_a_finished_run_is_not_trained_again(tiny_run, tiny_settings):
    before = (tiny_run / "history.csv").read_text()
    with pytest.raises(RunError, match="is finished: give another --out, with --start"):
        fit(tiny_settings, tiny_run)
    assert (tiny_run / "history.csv").read_text() == before


def test_a_run_goes_on_from_the_best_weights_of_an_earlier_one(tiny_run, tiny_settings, tmp_path):
    settings = dataclasses.replace(tiny_settings, start=str(tiny_run), epochs=1, steps=1, learning_rate=1e-12)
    fit(settings, tmp_path / "on", verbose=0)
    started, ended = (h5py_arrays(run / "best.weights.h5") for run in (tiny_run, tmp_path / "on"))
    for before, after in zip(started, ended, strict=True):
        np.testing.assert_allclose(before, after, atol=1e-6)


def test_a_run_of_other_classes_is_no_start(tiny_run, tiny_settings, fruit, tmp_path):
    shutil.copytree(fruit, tmp_path / "data")
    for path in (tmp_path / "data").glob("*/annotations.json"):
        path.write_text(path.read_text().replace("pumpkin", "melon"))
    settings = dataclasses.replace(tiny_settings, data=str(tmp_path / "data"), start=str(tiny_run))
    with pytest.raises(RunError, match="knows the classes"):
        fit(settings, tmp_path / "run", verbose=0)
    assert not (tmp_path / "run").exists()


def test_a_validation_split_without_instances_is_refused(tiny_settings, fruit, tmp_path):
    shutil.copytree(fruit, tmp_path / "data")
    path = tmp_path / "data" / "val" / "annotations.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"annotations": []}))
    with pytest.raises(DatasetError, match="holds no instances"):
        fit(dataclasses.replace(tiny_settings, data=str(tmp_path / "data")), tmp_path / "run", verbose=0)
    assert not (tmp_path / "run").exists()


def test_damaged_settings_are_told(tmp_path):
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(RunError, match=r"settings[.]json is damaged"):
        read_settings(tmp_path)
    (tmp_path / "settings.json").write_text('{"settings": {"recipe": {}, "colour": 1}, "classes": []}')
    with pytest.raises(RunError, match="another version"):
        read_settings(tmp_path)


def test_another_data_set_for_the_same_folder_is_refused(tiny_run, tiny_settings, fruit, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(fruit, other)
    with pytest.raises(RunError, match="another data"):
        fit(dataclasses.replace(tiny_settings, data=str(other)), tiny_run)


def test_splits_with_different_classes_are_refused(tmp_path, make_split):
    make_split(tmp_path / "train", [[]], ["pumpkin"])
    make_split(tmp_path / "val", [[]], ["apple"])
    with pytest.raises(DatasetError, match="apple"):
        fit(Settings(data=str(tmp_path)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"profile": "x"}, "unknown profile 'x'"), ({"input_size": 100}, "not a multiple of 32")],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(RunError, match=message):
        Settings(data="", **change).to_profile()


def test_a_loss_that_is_no_number_ends_the_run():
    stop = fit_module._StopAtNaN(Settings(data="", learning_rate=0.5))
    stop.on_train_batch_end(0, {"loss": 3.0})
    with pytest.raises(RunError, match=r"became nan: start again with less than 0\.5"):
        stop.on_train_batch_end(1, {"loss": float("nan")})


def test_load_run_tells_a_folder_that_is_no_run_from_an_unfinished_one(tmp_path, tiny_run):
    with pytest.raises(RunError, match="is not a training run"):
        load_run(tmp_path)
    shutil.copy(tiny_run / "settings.json", tmp_path)
    with pytest.raises(RunError, match="no checkpoint yet"):
        load_run(tmp_path)


def test_learning_rate_factors_scale_the_step():
    variables = [keras.Variable(np.ones(3, np.float32), name=name) for name in ("slow", "fast")]
    optimizer = LayerwiseAdamW({variables[0].path: 0.25}, learning_rate=0.1, weight_decay=0.0)
    optimizer.build(variables)
    optimizer.apply([np.full(3, 2.0, np.float32)] * 2, variables)
    slow, fast = (1 - np.array(variable) for variable in variables)
    assert np.allclose(fast, 0.1, rtol=1e-3)
    assert np.allclose(slow, 0.025, rtol=1e-3)


def test_the_backbone_of_a_run_learns_slower_than_the_rest(tiny_training):
    optimizer = tiny_training.trainer.optimizer
    by_path = dict(zip((v.path for v in tiny_training.trainer.trainable_variables), optimizer._factors, strict=True))
    slow = {path for path, factor in by_path.items() if factor == 0.25}
    assert slow == {path for path in by_path if path.split("/")[0].startswith("block")}
    assert len(slow) > 20
    assert {factor for path, factor in by_path.items() if path not in slow} == {1.0}


def test_stem_first_blocks_and_all_norms_are_frozen(tiny_training):
    names = {variable.path.split("/")[0] for variable in tiny_training.trainer.trainable_variables}
    assert not any(name.endswith("_bn") or name.startswith(("stem", "block0_", "block3_")) for name in names)
    assert any(name.startswith("block4_") for name in names)


def test_weight_decay_spares_biases(tiny_training):
    optimizer = tiny_training.trainer.optimizer
    decayed = {v.path for v in tiny_training.trainer.trainable_variables if optimizer._use_weight_decay(v)}
    assert any(path.endswith("kernel") for path in decayed)
    assert not any(path.endswith("bias") for path in decayed)
