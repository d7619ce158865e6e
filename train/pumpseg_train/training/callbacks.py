"""What happens during a run: own samples for each epoch, validation, checkpoints, logs, an early end."""

import contextlib
import csv
import datetime
import importlib.util
import io
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pumpseg.atomic_file import write_json, write_text
from pumpseg.errors import first_line
from pumpseg_train.dataset.labelled_set import LabelledSet
from pumpseg_train.evaluation.metrics import evaluate
from pumpseg_train.evaluation.prediction_sheet import PredictionSheet
from pumpseg_train.model.network import MaskRCNN
from pumpseg_train.progress import Progress
from pumpseg_train.samples.loader import Batches
from pumpseg_train.training.checkpoint import Checkpoint
from pumpseg_train.training.predictor import predictor
from pumpseg_train.training.run import (
    BEST_METRICS,
    BEST_WEIGHTS,
    STATE,
    RunError,
    Settings,
    read_best,
    save_weights,
)

_BATCHES_TO_ESTIMATE = 10


def run_callbacks(
    model: MaskRCNN,
    validation: LabelledSet,
    batches: Batches,
    settings: Settings,
    run: Path,
    progress: Progress,
    done: int,
) -> tuple[list[keras.callbacks.Callback], "ShowEpochs"]:
    """All callbacks of a run that has `done` epochs behind it, in their order; and the one to close."""
    shown = ShowEpochs(settings, progress)
    # The checkpoint comes after the validation: an epoch whose validation was interrupted is repeated.
    callbacks = [
        SeedEpoch(batches, settings.seed),
        Speed(batches, settings.batch_size),
        Validate(model, validation, run, settings, progress),
        History(run / "history.csv", done),
        *_tensorboard(run),
        Checkpoint(run / STATE),
        StopAtNaN(f"start again with a learning rate below {settings.learning_rate:g}"),
        shown,
    ]
    return callbacks, shown


class SeedEpoch(keras.callbacks.Callback):
    """Gives each epoch its own samples, anchors and RoIs, the same ones when a run is resumed there."""

    def __init__(self, batches: Batches, seed: int) -> None:
        super().__init__()
        self.batches = batches
        self._seed = seed

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.batches.epoch = epoch
        # Keras does not save seed generators. Each draw increments the second number.
        dropouts = [layer for layer in self.model.box_head.layers if isinstance(layer, keras.layers.Dropout)]
        for number, owner in enumerate([self.model, *dropouts]):
            owner.seed_generator.state.assign([self._seed + number, epoch << 20])


class Speed(keras.callbacks.Callback):
    """Logs training images per second and the share of the time spent waiting for samples."""

    def __init__(self, batches: Batches, batch_size: int) -> None:
        super().__init__()
        self._batches = batches
        self._images = len(batches) * batch_size

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._batches.wait_seconds = 0.0
        self._begin = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        seconds = time.perf_counter() - self._begin
        if logs is not None:
            logs.update(images_per_second=self._images / seconds, waiting_share=self._batches.wait_seconds / seconds)


class Validate(keras.callbacks.Callback):
    """After each epoch: logs the COCO AP of the averaged weights on `val` and saves the best ones.

    Also draws predictions every few epochs, and ends a run that no longer improves.
    """

    def __init__(
        self, model: MaskRCNN, dataset: LabelledSet, run: Path, settings: Settings, progress: Progress
    ) -> None:
        super().__init__()
        self._mask_rcnn, self._dataset, self._run, self._settings = model, dataset, run, settings
        self._progress = progress
        self._predict = predictor(model)
        self._average = keras.callbacks.SwapEMAWeights()
        self._best, self._best_epoch = -1.0, 0
        if (run / BEST_METRICS).is_file():
            best = read_best(run)
            self._best, self._best_epoch = best["mask"]["ap"], best["epoch"]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        number = epoch + 1
        every = self._settings.pictures_every
        sheet = PredictionSheet(self._predict) if every and number % every == 0 else None
        self._average.set_model(self.model)
        self._average.on_test_begin()
        try:
            with self._progress.stage("validating", len(self._dataset.photos), "images") as advance:
                metrics = evaluate(self._dataset, sheet or self._predict, advance)
            if metrics.mask.ap > self._best:
                self._best, self._best_epoch = metrics.mask.ap, number
                save_weights(self._mask_rcnn, self._run / BEST_WEIGHTS)
                write_json(self._run / BEST_METRICS, {"epoch": number, **metrics.to_json()})
        finally:
            self._average.on_test_end()
        if sheet:
            sheet.save(self._run / "pictures" / f"epoch{number:03d}.jpg")
        if logs is not None:
            logs.update(
                val_mask_ap=metrics.mask.ap,
                val_mask_ap50=metrics.mask.ap50,
                val_box_ap=metrics.box.ap,
                val_box_ap50=metrics.box.ap50,
            )
        if self._settings.patience and number - self._best_epoch >= self._settings.patience:
            self.model.stop_training = True


class History(keras.callbacks.Callback):
    """A CSV file with a row for each epoch, from 1; rows of epochs after `done`, which are repeated, are dropped.

    Raises RunError if there is a file that cannot be read.
    """

    def __init__(self, path: Path, done: int) -> None:
        super().__init__()
        self._path = path
        self._rows: list[dict[str, Any]] = []
        if done and path.is_file():
            try:
                with path.open(newline="", encoding="utf-8") as file:
                    self._rows = [row for row in csv.DictReader(file) if int(row["epoch"]) <= done]
            except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
                raise RunError(f"{path} is damaged, remove it to resume the run: {first_line(error)}") from None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._rows.append({"epoch": epoch + 1, **dict(sorted((logs or {}).items()))})
        text = io.StringIO()
        table = csv.DictWriter(text, list(self._rows[-1]), restval="", extrasaction="ignore")
        table.writeheader()
        table.writerows(self._rows)
        write_text(self._path, text.getvalue())


class ShowEpochs(keras.callbacks.Callback):
    """Reports the batches of an epoch as they pass, one line when it is over, and how long the rest takes.

    `close` ends a stage that an error has interrupted.
    """

    def __init__(self, settings: Settings, progress: Progress) -> None:
        super().__init__()
        self._settings, self._progress = settings, progress
        self._stage = contextlib.ExitStack()
        self._first_epoch = -1

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = epoch
        number, epochs, steps = epoch + 1, self._settings.epochs, self._settings.steps
        if self._first_epoch < 0:
            self._first_epoch, self._begin = epoch, time.monotonic()
            if epoch:
                self._progress.note(f"resuming from epoch {number} of {epochs}")
            self._progress.note("the first batch takes longer than the others: the training step is prepared")
        self._advance = self._stage.enter_context(self._progress.stage(f"epoch {number} of {epochs}", steps, "batches"))

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._advance(1)
        if batch + 1 == self._settings.steps:
            self.close()
        if self._epoch != self._first_epoch:
            return
        # The first batch tells nothing about the others.
        if batch == 0:
            self._second = time.monotonic()
        elif batch == _BATCHES_TO_ESTIMATE:
            batches = (self._settings.epochs - self._first_epoch) * self._settings.steps
            seconds = (time.monotonic() - self._second) * batches / _BATCHES_TO_ESTIMATE
            self._progress.note(f"about {_time(seconds)} of training in all, validation not included")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.close()
        done, left = epoch + 1 - self._first_epoch, self._settings.epochs - epoch - 1
        now = logs or {}
        losses = ", ".join(f"{name} {now[name]:.3f}" for name in ("rpn_class", "rpn_box", "class", "box", "mask"))
        speed = f"{now['images_per_second']:.2g} images/s"
        line = (
            f"epoch {epoch + 1} of {self._settings.epochs}: loss {now['loss']:.3f} ({losses}), "
            f"mask AP {now['val_mask_ap']:.3f}, AP50 {now['val_mask_ap50']:.3f}, {speed}"
        )
        if left:
            line += f", {_time((time.monotonic() - self._begin) / done * left)} left"
        self._progress.note(line)

    def close(self) -> None:
        self._stage.close()


def _time(seconds: float) -> str:
    """Hours, minutes and seconds as a clock shows them."""
    return str(datetime.timedelta(seconds=round(seconds)))


class StopAtNaN(keras.callbacks.Callback):
    """Ends a run whose loss became NaN or infinite at once, before such weights are validated or saved."""

    def __init__(self, advice: str) -> None:
        super().__init__()
        self._advice = advice

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if logs and not np.isfinite(logs["loss"]):
            raise RunError(f"the loss became {logs['loss']}: {self._advice}")


def _tensorboard(run: Path) -> list[keras.callbacks.Callback]:
    """The TensorBoard callback, where TensorBoard and TensorFlow are installed."""
    if any(importlib.util.find_spec(name) is None for name in ("tensorboard", "tensorflow")):
        return []
    return [keras.callbacks.TensorBoard(run / "tensorboard", write_graph=False)]
