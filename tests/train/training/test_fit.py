"""A run of a few steps: what it leaves on disk, what it saves, and that a crash changes nothing."""

import dataclasses
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib

import keras
import numpy as np
import pytest

from pumpseg.errors import DatasetError
from pumpseg_train.progress import StderrProgress
from pumpseg_train.samples.config import AugmentationConfig
from pumpseg_train.training import callbacks
from pumpseg_train.training.fit import fit, read_objects
from pumpseg_train.training.run import RunError, Settings, load_run, read_settings


def recorded(trainer):
    """The trainable weights of a trainer, and the moving averages that its optimizer keeps of them."""
    optimizer = trainer.optimizer
    return (
        [np.array(variable) for variable in trainer.trainable_variables],
        [np.array(variable) for variable in optimizer.variables if "average" in variable.path],
    )


def distance(some, others):
    return np.mean([np.abs(a - b).mean() for a, b in zip(some, others, strict=True)])


@pytest.fixture
def unvalidated(monkeypatch, metrics_of):
    """Spares a run the detections of its validation, where it is the training that counts."""
    monkeypatch.setattr(callbacks, "evaluate", lambda dataset, predict, advance: metrics_of(0.5))


def test_run_leaves_its_settings_best_weights_and_history(tiny_run, tiny_settings, read_history):
    assert sorted(path.name for path in tiny_run.iterdir()) == [
        "best.json",
        "best.weights.h5",
        "finished",
        "history.csv",
        "pictures",
        "settings.toml",
        "state",
        *(["tensorboard"] if importlib.util.find_spec("tensorboard") else []),
    ]
    content = tomllib.loads((tiny_run / "settings.toml").read_text())
    assert content["classes"] == ["pumpkin"]
    assert content["input_size"] == 96
    assert read_settings(tiny_run) == tiny_settings
    rows = read_history(tiny_run)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    losses = {"loss", "rpn_class", "rpn_box", "class", "box", "mask"}
    validation = {"val_mask_ap", "val_mask_ap50", "val_box_ap", "val_box_ap50"}
    assert set(rows[0]) == losses | validation | {"epoch", "images_per_second", "waiting_share"}
    assert all(float(row["images_per_second"]) > 0 for row in rows)
    assert all(0 <= float(row["waiting_share"]) < 1 for row in rows)
    assert all(np.isfinite(float(row[name])) for row in rows for name in losses)


def test_an_interrupted_run_ends_as_if_nothing_had_happened(
    tiny_training, tiny_settings, tmp_path, monkeypatch, step_by_step, read_history
):
    run = tmp_path / "run"
    trainers, drawn = [], []
    tiny_training.spy(monkeypatch, trainers, drawn)

    # In the validation of the first epoch: the epoch is done again.
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(callbacks, "evaluate", interrupt)
        fit(tiny_settings, run)
    assert not (run / "history.csv").exists()

    # In the second epoch.
    before = {}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):

        def second_epoch(callback, batch, logs=None):
            if callback.batches.epoch == 0:
                before["trainer"] = recorded(callback.model)
            else:
                interrupt()

        patch.setattr(callbacks.SeedEpoch, "on_train_batch_end", second_epoch)
        fit(tiny_settings, run)
    assert [row["epoch"] for row in read_history(run)] == ["1"]
    assert (run / "state").is_dir()
    weights, averages = before["trainer"]
    saved = recorded_best(run)
    assert distance(saved, averages) < 0.1 * distance(saved, weights), "the moving average is what is saved"

    drawn.clear()
    fit(tiny_settings, run)
    assert {epoch for epoch, _ in drawn[-2:]} == {1}
    assert len([pair for pair in drawn if pair[0] == 1]) == 2
    assert sorted(path.name for path in (run / "state").iterdir()) == ["epoch0002.weights.h5"]
    timings = ("images_per_second", "waiting_share")
    for row, wanted in zip(read_history(run), read_history(tiny_training.folder), strict=True):
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


def test_a_finished_run_is_not_trained_again(tiny_run, tiny_settings, capsys):
    before = {path: path.stat().st_mtime_ns for path in tiny_run.iterdir()}
    fit(tiny_settings, tiny_run, progress=StderrProgress())
    said = capsys.readouterr().err
    assert re.search(r"is finished: its best epoch is \d, mask AP 0\.\d+; the same command with --epochs above 2", said)
    assert {path: path.stat().st_mtime_ns for path in tiny_run.iterdir()} == before


def test_a_finished_run_goes_on_with_more_epochs(
    tiny_run, tiny_settings, tiny_training, tmp_path, step_by_step, unvalidated, monkeypatch, capsys, read_history
):
    trainers, drawn = [], []
    tiny_training.spy(monkeypatch, trainers, drawn)
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    more = dataclasses.replace(tiny_settings, epochs=3)
    fit(more, run, progress=StderrProgress())
    said = capsys.readouterr().err
    assert re.search(r"^resuming from epoch 3 of 3$", said, re.MULTILINE)
    assert re.findall(r"^epoch (\d) of 3: loss", said, re.MULTILINE) == ["3"]
    assert "1 class (pumpkin): training on 3 images with 4 instances, validation on 2 images with 3" in said
    assert [row["epoch"] for row in read_history(run)] == ["1", "2", "3"]
    assert {epoch for epoch, _ in drawn[-2:]} == {2}
    assert int(trainers[0].optimizer.iterations) == 3 * tiny_settings.steps
    assert read_settings(run) == more
    assert (run / "finished").exists()

    with pytest.raises(RunError, match=r"another epochs: .*; only --epochs may grow"):
        fit(tiny_settings, run)
    shutil.rmtree(run / "state")
    with pytest.raises(RunError, match="was finished without its state: --init-from"):
        fit(dataclasses.replace(tiny_settings, epochs=4), run)
    assert (run / "finished").exists()
    assert read_settings(run) == more


def test_a_run_starts_from_the_best_weights_of_an_earlier_one(
    tiny_run, tiny_settings, tmp_path, step_by_step, unvalidated, saved_arrays
):
    settings = dataclasses.replace(tiny_settings, init_from=str(tiny_run), epochs=1, steps=1, learning_rate=1e-12)
    fit(settings, tmp_path / "on")
    started, ended = (saved_arrays(run) for run in (tiny_run, tmp_path / "on"))
    for before, after in zip(started, ended, strict=True):
        np.testing.assert_allclose(before, after, atol=1e-6)


def test_a_run_of_other_classes_gives_all_but_the_class_layer(
    tiny_run, tiny_settings, fruit, tmp_path, capsys, unvalidated, step_by_step
):
    shutil.copytree(fruit, tmp_path / "data")
    for path in (tmp_path / "data").glob("*/annotations.json"):
        path.write_text(path.read_text().replace("pumpkin", "melon"))
    settings = dataclasses.replace(
        tiny_settings, data=str(tmp_path / "data"), init_from=str(tiny_run), epochs=1, steps=1, pictures_every=0
    )
    fit(settings, tmp_path / "run", progress=StderrProgress())
    assert "randomly initialised: class_logits" in capsys.readouterr().err


def test_a_source_of_weights_that_is_none_is_refused_before_anything_is_written(tiny_settings, tmp_path):
    with pytest.raises(RunError, match="--init-from nowhere: not general, imagenet"):
        fit(dataclasses.replace(tiny_settings, init_from="nowhere"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_validation_split_without_instances_is_refused(tiny_settings, fruit, tmp_path):
    shutil.copytree(fruit, tmp_path / "data")
    path = tmp_path / "data" / "val" / "annotations.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"annotations": []}))
    with pytest.raises(DatasetError, match="holds no instances"):
        fit(dataclasses.replace(tiny_settings, data=str(tmp_path / "data")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


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


def test_gradients_of_several_batches_make_one_update(
    tiny_training, tiny_settings, tmp_path, step_by_step, unvalidated, monkeypatch
):
    trainers = []
    tiny_training.spy(monkeypatch, trainers, [])
    fit(dataclasses.replace(tiny_settings, accumulate=2, epochs=1), tmp_path / "run")
    (trainer,) = trainers
    assert int(trainer.optimizer.iterations) == 1


def test_mixed_precision_keeps_weights_and_answers_in_float32(
    tiny_training, tiny_settings, tmp_path, step_by_step, monkeypatch, read_history
):
    trainers = []
    tiny_training.spy(monkeypatch, trainers, [])
    settings = dataclasses.replace(tiny_settings, precision="mixed_bfloat16", epochs=1, steps=1, pictures_every=0)
    fit(settings, tmp_path / "run")
    trainer = trainers[0]
    trunk = trainer.trunk
    assert {variable.dtype for variable in trainer.trainable_variables} == {"float32"}
    assert trunk.get_layer("block5_expand").compute_dtype == "bfloat16"
    assert {trunk.output[name].dtype for name in ("objectness", "anchor_deltas")} == {"float32"}
    assert {v.dtype for v in (*trainer.box_head.output.values(), *trainer.mask_head.output.values())} == {"float32"}
    assert np.isfinite(float(read_history(tmp_path / "run")[0]["loss"]))
    assert not (tmp_path / "run" / "pictures").exists()
    assert keras.config.dtype_policy().name == "float32"
    assert load_run(tmp_path / "run").trunk.get_layer("block5_expand").compute_dtype == "float32"


def test_only_jax_shares_batches_among_devices(tiny_settings, tmp_path):
    with pytest.raises(RunError, match="tensorflow cannot distribute batches"):
        fit(tiny_settings, tmp_path / "run", distributed=True)


DISTRIBUTED = """
import sys
import keras
from pathlib import Path
from pumpseg_train.training.fit import fit
from pumpseg_train.training.run import make_settings

assert len(keras.distribution.list_devices()) == 2
fit(make_settings({"data": sys.argv[1], **eval(sys.argv[3])}), Path(sys.argv[2]), distributed=True)
"""


def test_a_batch_shared_by_two_devices_trains_as_on_one(tiny_settings, tmp_path, read_history):
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
        losses.append(float(read_history(run)[0]["loss"]))
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_stem_first_blocks_and_all_norms_are_frozen(tiny_training):
    names = {variable.path.split("/")[0] for variable in tiny_training.trainer.trainable_variables}
    assert not any(name.endswith("_bn") or name.startswith(("stem", "block0_", "block3_")) for name in names)
    assert any(name.startswith("block4_") for name in names)


def test_a_damaged_validation_photo_is_reported_before_the_training(tiny_settings, fruit, tmp_path):
    shutil.copytree(fruit, tmp_path / "data")
    photo = next((tmp_path / "data" / "val" / "images").iterdir())
    photo.write_bytes(photo.read_bytes()[:100])
    with pytest.raises(DatasetError, match=f"{photo.name} cannot be read"):
        fit(dataclasses.replace(tiny_settings, data=str(tmp_path / "data")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_while_a_sample_is_drawn_is_reported_unchanged(tiny_settings, tmp_path, workers):
    backgrounds = tmp_path / "backgrounds"
    backgrounds.mkdir()
    (backgrounds / "bad.png").write_bytes(b"text")
    augmentation = AugmentationConfig(mosaic_prob=0, negative_prob=1, paste_prob=0, aux_prob=0)
    settings = dataclasses.replace(tiny_settings, backgrounds=(str(backgrounds),), augmentation=augmentation)
    with pytest.raises(DatasetError, match=r"bad\.png cannot be read"):
        fit(settings, tmp_path / "run", workers=workers)


def test_cutouts_may_be_a_data_set_with_a_train_split(fruit):
    whole, part = (read_objects(folder) for folder in (fruit, fruit / "train"))
    assert whole.json_path == part.json_path == fruit / "train" / "annotations.json"
