"""What a run does after each batch and epoch."""

import dataclasses
import itertools
import json
from contextlib import contextmanager

import cv2
import pytest

from pumpseg_train.progress import Progress
from pumpseg_train.training import callbacks
from pumpseg_train.training.callbacks import History, ShowEpochs, StopAtNaN
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
    monkeypatch.setattr(callbacks, "evaluate", lambda dataset, predict, advance: metrics_of(next(worse)))
    settings = dataclasses.replace(tiny_settings, epochs=4, steps=1, patience=2, pictures_every=0)
    fit(settings, tmp_path / "run")
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


def test_epochs_that_are_repeated_have_one_row(tmp_path):
    path = tmp_path / "history.csv"
    history = History(path, done=0)
    for epoch in range(3):
        history.on_epoch_end(epoch, {"loss": 3.0 - epoch, "box": 0.5})
    assert path.read_text().splitlines() == ["epoch,box,loss", "1,0.5,3.0", "2,0.5,2.0", "3,0.5,1.0"]

    again = History(path, done=1)
    assert path.read_text().splitlines()[3] == "3,0.5,1.0", "nothing is lost before there is something new"
    again.on_epoch_end(1, {"loss": 9.0, "box": 0.5})
    assert path.read_text().splitlines() == ["epoch,box,loss", "1,0.5,3.0", "2,0.5,9.0"]


@pytest.mark.parametrize("content", [b"loss\n1\n", b"epoch,loss\none,1\n", b"\xff\xfe", b"epoch\n\0"])
def test_a_damaged_history_is_not_overwritten(tmp_path, content):
    path = tmp_path / "history.csv"
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"history\.csv is damaged, remove it to resume the run"):
        History(path, done=1)
    assert path.read_bytes() == content


def test_each_epoch_draws_its_own_batches(tiny_training):
    # Keras asks for the first batches once more, to see their shapes, before the first epoch.
    assert sorted(tiny_training.drawn[-4:]) == [(0, 0), (0, 1), (1, 0), (1, 1)]


class NotedProgress(Progress):
    """Everything that is reported, in order."""

    def __init__(self):
        self.said = []

    def note(self, text):
        self.said.append(text)

    @contextmanager
    def stage(self, what, total, unit, start=0):
        self.said.append(f"begin {what}, {total} {unit}")
        yield lambda count: self.said.append(count)
        self.said.append(f"end {what}")


def test_the_time_of_a_run_is_estimated_once_and_then_measured(tiny_settings, monkeypatch):
    clock = itertools.count(100, 5)
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: next(clock))
    progress = NotedProgress()
    shown = ShowEpochs(dataclasses.replace(tiny_settings, epochs=4, steps=12), progress)
    figures = {"rpn_class": 0.1, "rpn_box": 0.2, "class": 0.3, "box": 0.4, "mask": 0.5, "loss": 1.5}
    figures |= {"val_mask_ap": 0.25, "val_mask_ap50": 0.5, "images_per_second": 3.0}
    for epoch in (1, 2, 3):
        shown.on_epoch_begin(epoch)
        for batch in range(12):
            shown.on_train_batch_end(batch)
        shown.on_epoch_end(epoch, figures)
    line = "epoch {} of 4: loss 1.500 (rpn_class 0.100, rpn_box 0.200, class 0.300, box 0.400, mask 0.500), "
    line += "mask AP 0.250, AP50 0.500, 3 images/s"
    assert [text for text in progress.said if text != 1] == [
        "resuming from epoch 2 of 4",
        "the first batch takes longer than the others: the training step is prepared",
        "begin epoch 2 of 4, 12 batches",
        "about 0:00:18 of training in all, validation not included",  # 5 s for 10 batches, 3 epochs of 12 of them
        "end epoch 2 of 4",
        line.format(2) + ", 0:00:30 left",  # 15 s for the first of three
        "begin epoch 3 of 4, 12 batches",
        "end epoch 3 of 4",
        line.format(3) + ", 0:00:10 left",
        "begin epoch 4 of 4, 12 batches",
        "end epoch 4 of 4",
        line.format(4),
    ]


def test_a_stage_that_an_error_interrupts_is_ended(tiny_settings):
    progress = NotedProgress()
    shown = ShowEpochs(tiny_settings, progress)
    shown.on_epoch_begin(0)
    shown.on_train_batch_end(0)
    shown.close()
    assert progress.said[1:] == ["begin epoch 1 of 2, 2 batches", 1, "end epoch 1 of 2"]
