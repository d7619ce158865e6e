"""A run of a few steps: what it leaves on disk, what it saves, and that a crash changes nothing."""

import csv
import dataclasses
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib

import cv2
import h5py
import keras
import numpy as np
import pytest

from pumpseg.errors import DatasetError
from pumpseg_train.evaluation.metrics import AveragePrecision, Metrics
from pumpseg_train.samples.config import AugmentationConfig
from pumpseg_train.training import fit as fit_module
from pumpseg_train.training.fit import LayerwiseAdamW, fit
from pumpseg_train.training.run import RunError, Settings, load_run, make_settings, read_settings, write_settings


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


def metrics_of(ap):
    figures = AveragePrecision(ap, *[0.0] * 5)
    return Metrics(figures, figures)


@pytest.fixture
def unvalidated(monkeypatch):
    """Spares a run the detections of its validation, where it is the training that counts."""
    monkeypatch.setattr(fit_module, "evaluate", lambda dataset, predict: metrics_of(0.5))


def test_run_leaves_its_settings_best_weights_and_history(tiny_run, tiny_settings):
    assert sorted(path.name for path in tiny_run.iterdir()) == [
        "best.json",
        "best.weights.h5",
        "finished",
        "history.csv",
        "pictures",
        "settings.toml",
        *(["tensorboard"] if importlib.util.find_spec("tensorboard") else []),
    ]
    content = tomllib.loads((tiny_run / "settings.toml").read_text())
    assert content["classes"] == ["pumpkin"]
    assert content["input_size"] == 96
    assert read_settings(tiny_run) == tiny_settings
    rows = history(tiny_run)
    assert [row["epoch"] for row in rows] == ["0", "1"]
    losses = {"loss", "rpn_class", "rpn_box", "class", "box", "mask"}
    validation = {"val_mask_ap", "val_mask_ap50", "val_box_ap", "val_box_ap50"}
    assert set(rows[0]) == losses | validation | {"epoch", "images_per_second", "waiting_share"}
    assert all(float(row["images_per_second"]) > 0 for row in rows)
    assert all(0 <= float(row["waiting_share"]) < 1 for row in rows)
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
    timings = ("images_per_second", "waiting_share")
    for row, wanted in zip(history(run), history(tiny_training.folder), strict=True):
        assert {name: float(value) for name, value in row.items() if name not in timings} == pytest.approx(
            {name: float(value) for name, value in wanted.items() if name not in timings}, rel=2e-3, abs=1e-6
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
    with pytest.raises(RunError, match="is finished: give another --out, with --init-from"):
        fit(tiny_settings, tiny_run)
    assert (tiny_run / "history.csv").read_text() == before


def test_a_run_goes_on_from_the_best_weights_of_an_earlier_one(
    tiny_run, tiny_settings, tmp_path, step_by_step, unvalidated
):
    settings = dataclasses.replace(tiny_settings, init_from=str(tiny_run), epochs=1, steps=1, learning_rate=1e-12)
    fit(settings, tmp_path / "on", verbose=0)
    started, ended = (h5py_arrays(run / "best.weights.h5") for run in (tiny_run, tmp_path / "on"))
    for before, after in zip(started, ended, strict=True):
        np.testing.assert_allclose(before, after, atol=1e-6)


def test_a_run_of_other_classes_is_no_start(tiny_run, tiny_settings, fruit, tmp_path):
    shutil.copytree(fruit, tmp_path / "data")
    for path in (tmp_path / "data").glob("*/annotations.json"):
        path.write_text(path.read_text().replace("pumpkin", "melon"))
    settings = dataclasses.replace(tiny_settings, data=str(tmp_path / "data"), init_from=str(tiny_run))
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
    path = tmp_path / "settings.toml"
    for text, message in (
        ("data = ", r"settings[.]toml is no TOML"),
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


def test_another_data_set_for_the_same_folder_is_refused(tiny_run, tiny_settings, fruit, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(fruit, other)
    with pytest.raises(RunError, match="another data"):
        fit(dataclasses.replace(tiny_settings, data=str(other)), tiny_run)


def test_a_data_set_named_another_way_is_the_same(tiny_settings, fruit, tmp_path, monkeypatch):
    settings = dataclasses.replace(tiny_settings, backgrounds=(str(fruit),))
    write_settings(tmp_path / "run", settings, ("pumpkin",))
    monkeypatch.chdir(fruit.parent)
    named_shortly = dataclasses.replace(settings, data=f"./{fruit.name}/train/..", backgrounds=(fruit.name,))
    write_settings(tmp_path / "run", named_shortly, ("pumpkin",))
    with pytest.raises(RunError, match="another backgrounds"):
        write_settings(tmp_path / "run", dataclasses.replace(settings, backgrounds=("other",)), ("pumpkin",))


def test_opencv_gets_its_threads_back():
    before = cv2.getNumThreads()
    with pytest.raises(ZeroDivisionError), fit_module.one_opencv_thread():
        assert cv2.getNumThreads() == 1
        raise ZeroDivisionError
    assert cv2.getNumThreads() == before


def test_splits_with_different_classes_are_refused(tmp_path, make_split):
    make_split(tmp_path / "train", [[]], ["pumpkin"])
    make_split(tmp_path / "val", [[]], ["apple"])
    with pytest.raises(DatasetError, match="apple"):
        fit(Settings(data=str(tmp_path)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


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
        ({"augmentation": {"mosaic_prob": -0.1}}, r"mosaic_prob = -0\.1 does not lie in 0\.\.1"),
        ({"augmentation": {"stretch": 0}}, "stretch = 0"),
        ({"augmentation": {"photo_scale": [2, 1]}}, r"photo_scale = 2\.0, 1\.0 must be above 0 and rise"),
    ],
)
def test_settings_that_cannot_be_are_told_in_one_line(values, message):
    with pytest.raises(RunError, match=message) as raised:
        settings_with(**values)
    assert "\n" not in str(raised.value)


def test_gradients_of_several_batches_make_one_update(
    tiny_training, tiny_settings, tmp_path, step_by_step, unvalidated, monkeypatch
):
    trainers = []
    tiny_training.spy(monkeypatch, trainers, [])
    fit(dataclasses.replace(tiny_settings, accumulate=2, epochs=1), tmp_path / "run", verbose=0)
    (trainer,) = trainers
    assert int(trainer.optimizer._iterations) == 2
    assert int(trainer.optimizer.iterations) == 1


def test_the_learning_rate_falls_over_the_whole_run_however_many_batches_make_an_update(tiny_settings):
    from pumpseg_train.model.network import build_mask_rcnn

    model = build_mask_rcnn(tiny_settings.to_profile(), ("pumpkin",))
    rates = []
    for accumulate in (1, 4):
        settings = dataclasses.replace(tiny_settings, accumulate=accumulate, epochs=10, steps=10, warmup_steps=0)
        schedule = fit_module._optimizer(settings, model)._learning_rate  # Keras asks it with the number of batches
        rates.append([float(schedule(batch)) for batch in (0, 50, 99)])
    assert rates[0] == rates[1]
    assert rates[0][0] > 10 * rates[0][2]


def test_mixed_precision_keeps_weights_and_answers_in_float32(
    tiny_training, tiny_settings, tmp_path, step_by_step, monkeypatch
):
    trainers = []
    tiny_training.spy(monkeypatch, trainers, [])
    settings = dataclasses.replace(tiny_settings, precision="mixed_bfloat16", epochs=1, steps=1, pictures_every=0)
    fit(settings, tmp_path / "run", verbose=0)
    trainer = trainers[0]
    trunk = trainer.trunk
    assert {variable.dtype for variable in trainer.trainable_variables} == {"float32"}
    assert trunk.get_layer("block5_expand").compute_dtype == "bfloat16"
    assert {trunk.output[name].dtype for name in ("objectness", "anchor_deltas")} == {"float32"}
    assert {v.dtype for v in (*trainer.box_head.output.values(), *trainer.mask_head.output.values())} == {"float32"}
    assert np.isfinite(float(history(tmp_path / "run")[0]["loss"]))
    assert not (tmp_path / "run" / "pictures").exists()
    assert keras.config.dtype_policy().name == "float32"
    assert load_run(tmp_path / "run").trunk.get_layer("block5_expand").compute_dtype == "float32"


def test_a_run_that_does_not_improve_stops(tiny_settings, tmp_path, step_by_step, monkeypatch):
    worse = iter([0.5, 0.4, 0.3, 0.2])
    monkeypatch.setattr(fit_module, "evaluate", lambda dataset, predict: metrics_of(next(worse)))
    settings = dataclasses.replace(tiny_settings, epochs=4, steps=1, patience=2, pictures_every=0)
    fit(settings, tmp_path / "run", verbose=0)
    assert len(history(tmp_path / "run")) == 3
    assert json.loads((tmp_path / "run" / "best.json").read_text())["epoch"] == 1
    assert (tmp_path / "run" / "finished").exists()


def test_pictures_of_the_validation_show_the_results(tiny_run, tiny_settings):
    assert (tiny_settings.epochs, tiny_settings.pictures_every) == (2, 2)
    (sheet,) = (tiny_run / "pictures").iterdir()
    assert sheet.name == "epoch002.jpg"
    assert cv2.imread(str(sheet)).shape == (320, 4 * 320, 3)


def test_only_jax_shares_batches_among_devices(tiny_settings, tmp_path):
    with pytest.raises(RunError, match="tensorflow cannot share batches"):
        fit(tiny_settings, tmp_path / "run", distributed=True, verbose=0)


DISTRIBUTED = """
import sys
import keras
from pathlib import Path
from pumpseg_train.training.fit import fit
from pumpseg_train.training.run import make_settings

assert len(keras.distribution.list_devices()) == 2
fit(make_settings({"data": sys.argv[1], **eval(sys.argv[3])}), Path(sys.argv[2]), distributed=True, verbose=0)
"""


def test_a_batch_shared_by_two_devices_trains_as_on_one(tiny_settings, tmp_path):
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed")
    small = {"input_size": 96, "epochs": 1, "steps": 1, "batch_size": 2, "warmup_steps": 1, "seed": 5}
    losses = []
    for devices in (1, 2):
        script = DISTRIBUTED if devices == 2 else DISTRIBUTED.replace("== 2", "== 1")
        environment = {
            **os.environ,
            "KERAS_BACKEND": "jax",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0",
        }
        run = tmp_path / f"run{devices}"
        done = subprocess.run(
            [sys.executable, "-c", script, tiny_settings.data, str(run), repr(small)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        losses.append(float(history(run)[0]["loss"]))
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_a_loss_that_is_no_number_ends_the_run():
    stop = fit_module._StopAtNaN(Settings(data="", learning_rate=0.5))
    stop.on_train_batch_end(0, {"loss": 3.0})
    with pytest.raises(RunError, match=r"became nan: start again with less than 0\.5"):
        stop.on_train_batch_end(1, {"loss": float("nan")})


def test_load_run_tells_a_folder_that_is_no_run_from_an_unfinished_one(tmp_path, tiny_run):
    with pytest.raises(RunError, match="is not a training run"):
        load_run(tmp_path)
    shutil.copy(tiny_run / "settings.toml", tmp_path)
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


def test_a_validation_photo_that_is_damaged_is_told_before_the_training(tiny_settings, fruit, tmp_path):
    shutil.copytree(fruit, tmp_path / "data")
    photo = next((tmp_path / "data" / "val" / "images").iterdir())
    photo.write_bytes(photo.read_bytes()[:100])
    with pytest.raises(DatasetError, match=f"{photo.name} is damaged"):
        fit(dataclasses.replace(tiny_settings, data=str(tmp_path / "data")), tmp_path / "run", verbose=0)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_what_fails_while_a_sample_is_drawn_is_told_as_it_is(tiny_settings, tmp_path, workers):
    backgrounds = tmp_path / "backgrounds"
    backgrounds.mkdir()
    (backgrounds / "bad.png").write_bytes(b"text")
    augmentation = AugmentationConfig(mosaic_prob=0, negative_prob=1, paste_prob=0, aux_prob=0)
    settings = dataclasses.replace(tiny_settings, backgrounds=(str(backgrounds),), augmentation=augmentation)
    with pytest.raises(DatasetError, match=r"bad\.png is damaged"):
        fit(settings, tmp_path / "run", workers=workers, verbose=0)


def test_cutouts_may_be_a_data_set_with_a_train_split(fruit):
    whole, part = (fit_module._objects(folder) for folder in (fruit, fruit / "train"))
    assert whole.json_path == part.json_path == fruit / "train" / "annotations.json"
