"""What a run does after each batch and epoch."""

import dataclasses
import json

import cv2
import pytest

from pumpseg_train.training import callbacks
from pumpseg_train.training.callbacks import StopAtNaN
from pumpseg_train.training.fit import fit
from pumpseg_train.training.run import RunError


def test_best_json_is_plain_json_with_the_figures_of_one_epoch(tiny_run, read_history):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    best = json.loads((tiny_run / "best.json").read_text(), parse_constant=refuse)
    row = read_history(tiny_run)[best["epoch"] - 1]
    assert best["mask"]["ap"] == pytest.approx(float(row["val_mask_ap"]))
    assert best["mask"]["large"] in (None, 0)  # no fruit of that size in the data


def test_a_run_that_does_not_improve_stops(
    tiny_settings, tmp_path, step_by_step, monkeypatch, read_history, metrics_of
):
    worse = iter([0.5, 0.4, 0.3, 0.2])
    monkeypatch.setattr(callbacks, "evaluate", lambda dataset, predict: metrics_of(next(worse)))
    settings = dataclasses.replace(tiny_settings, epochs=4, steps=1, patience=2, pictures_every=0)
    fit(settings, tmp_path / "run", verbose=0)
    assert len(read_history(tmp_path / "run")) == 3
    assert json.loads((tmp_path / "run" / "best.json").read_text())["epoch"] == 1
    assert (tmp_path / "run" / "finished").exists()


def test_pictures_of_the_validation_show_the_results(tiny_run, tiny_settings):
    assert (tiny_settings.epochs, tiny_settings.pictures_every) == (2, 2)
    (sheet,) = (tiny_run / "pictures").iterdir()
    assert sheet.name == "epoch002.jpg"
    assert cv2.imread(str(sheet)).shape == (320, 4 * 320, 3)


def test_a_loss_that_is_no_number_ends_the_run():
    stop = StopAtNaN("start again with a lower learning rate")
    stop.on_train_batch_end(0, {"loss": 3.0})
    with pytest.raises(RunError, match=r"became nan: start again with a lower learning rate"):
        stop.on_train_batch_end(1, {"loss": float("nan")})


def test_each_epoch_draws_its_own_batches(tiny_training):
    # Keras asks for the first batches once more, to see their shapes, before the first epoch.
    assert sorted(tiny_training.drawn[-4:]) == [(0, 0), (0, 1), (1, 0), (1, 1)]
