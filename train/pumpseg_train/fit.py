"""Fine-tunes a Mask R-CNN: optimizer, schedule, validation, checkpoints, resuming."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np

from pumpseg.errors import DatasetError
from pumpseg.instances import Instances
from pumpseg.letterbox import letterbox
from pumpseg_train.data.augment import gather
from pumpseg_train.data.coco import Dataset, read_dataset
from pumpseg_train.data.loader import Batches
from pumpseg_train.evaluate import Predict, evaluate
from pumpseg_train.model.detect import Detector
from pumpseg_train.model.losses import Trainer
from pumpseg_train.model.network import MaskRCNN, build_mask_rcnn
from pumpseg_train.run import (
    BEST_METRICS,
    BEST_WEIGHTS,
    FINISHED,
    RunError,
    Settings,
    load_run,
    save_weights,
    write_json,
    write_settings,
)


def fit(settings: Settings, run: Path, verbose: int | str = "auto") -> None:
    """Trains as `settings` say into the folder `run`; the same call again resumes after a crash.

    Writes `settings.json`, `best.weights.h5` + `best.json` (the epoch with the highest mask AP),
    `history.csv`, `state/` while unfinished, and an empty file `finished`.

    Raises:
        DatasetError: the data cannot be used as it is.
        RunError: `run` was started with other settings, the run to start from does not fit, or the loss
            left the numbers.
    """
    profile = settings.to_profile()
    training = read_dataset(Path(settings.data), "train")
    validation = read_dataset(Path(settings.data), "val")
    if training.classes != validation.classes:
        raise DatasetError(f"train has the classes {training.classes}, val has {validation.classes}")
    material = gather(
        training,
        [read_dataset(Path(folder), "train") for folder in settings.extras],
        [read_dataset(Path(folder)) for folder in settings.cutouts],
        [Path(folder) for folder in settings.backgrounds],
    )
    for dataset in (training, validation):
        if all(annotation.crowd for photo in dataset.photos for annotation in photo.annotations):
            raise DatasetError(f"{dataset.json_path} holds no instances")
    earlier = load_run(Path(settings.start)) if settings.start else None
    if earlier and earlier.classes != training.classes:
        raise RunError(f"{settings.start} knows the classes {earlier.classes}, the data has {training.classes}")
    write_settings(run, settings, training.classes)
    if (run / FINISHED).exists():
        raise RunError(f"{run} is finished: give another --out, with --start {run} to go on from it")

    cv2.setNumThreads(1)  # samples are drawn in threads of their own, and more would fight with the training step
    keras.utils.set_random_seed(settings.seed)
    model = build_mask_rcnn(profile, training.classes, imagenet=earlier is None)
    if earlier:
        for name, part in model.parts.items():
            part.set_weights(earlier.parts[name].get_weights())
    trainer = Trainer(model, settings.seed)
    trainer.compile(_optimizer(settings, model), jit_compile=False)  # XLA on CPUs is several times slower
    batches = Batches(
        material,
        settings.recipe,
        size=profile.input_size[0],
        fill=round(profile.pixel_mean),
        batch_size=settings.batch_size,
        steps=settings.steps,
        seed=settings.seed,
    )
    trainer.optimizer.build(trainer.trainable_variables)
    # The backup comes after the validation: an epoch that was not validated to its end is done again.
    # Its folder is kept until the run is marked as finished.
    callbacks = [
        _RandomOrder(batches, settings.seed),
        _Validate(model, validation, run),
        keras.callbacks.CSVLogger(run / "history.csv", append=True),
        keras.callbacks.BackupAndRestore(run / "state", double_checkpoint=True, delete_checkpoint=False),
        _StopAtNaN(settings),
    ]
    trainer.fit(batches, epochs=settings.epochs, callbacks=callbacks, verbose=verbose)
    (run / FINISHED).touch()
    shutil.rmtree(run / "state", ignore_errors=True)


def predictor(model: MaskRCNN) -> Predict:
    """Frame -> instances with Keras, letterboxed as the runtime does."""
    detector = Detector(model)
    detector.compile(jit_compile=False)
    profile = model.profile
    fill = (round(profile.pixel_mean),) * 3

    def predict(frame: np.ndarray) -> Instances:
        image, place = letterbox(frame, profile.input_size, fill, swap_red_blue=True)
        found = detector.predict_on_batch(image[None])
        valid = found["valid"][0]
        return Instances.in_frame(
            place.to_frame(found["boxes"][0][valid]),
            found["scores"][0][valid],
            found["class_ids"][0][valid].astype(np.int64),
            found["masks"][0][valid],
            frame.shape[:2],
            model.classes,
        )

    return predict


class _Validate(keras.callbacks.Callback):
    """After each epoch: COCO AP of the averaged weights on `val` into the logs, and the best ones to disk."""

    def __init__(self, model: MaskRCNN, dataset: Dataset, run: Path) -> None:
        super().__init__()
        self._mask_rcnn, self._dataset, self._run = model, dataset, run
        self._predict = predictor(model)
        self._average = keras.callbacks.SwapEMAWeights()
        path = run / BEST_METRICS
        self._best = json.loads(path.read_text())["mask"]["ap"] if path.is_file() else -1.0

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._average.set_model(self.model)
        self._average.on_test_begin()
        try:
            metrics = evaluate(self._dataset, self._predict)
            if metrics.mask.ap > self._best:
                self._best = metrics.mask.ap
                save_weights(self._mask_rcnn, self._run / BEST_WEIGHTS)
                write_json(self._run / BEST_METRICS, {"epoch": epoch + 1, **metrics.to_json()})
        finally:
            self._average.on_test_end()
        if logs is not None:
            logs.update(
                val_mask_ap=metrics.mask.ap,
                val_mask_ap50=metrics.mask.ap50,
                val_box_ap=metrics.box.ap,
                val_box_ap50=metrics.box.ap50,
            )


class _RandomOrder(keras.callbacks.Callback):
    """Gives each epoch its own samples and its own draws of anchors and RoIs, also when a run is resumed there."""

    def __init__(self, batches: Batches, seed: int) -> None:
        super().__init__()
        self._batches = batches
        self._seed = seed

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._batches.epoch = epoch
        # Keras saves no seed generators. Each draw counts the second number up by one.
        self.model.seed_generator.state.assign([self._seed, epoch << 20])


class _StopAtNaN(keras.callbacks.Callback):
    """Ends a run that has left the numbers at once, before such weights are validated or saved."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._learning_rate = settings.learning_rate

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if logs and not np.isfinite(logs["loss"]):
            raise RunError(f"the loss became {logs['loss']}: start again with less than {self._learning_rate:g}")


class LayerwiseAdamW(keras.optimizers.AdamW):
    """AdamW with a learning rate factor for some variables, by path."""

    def __init__(self, factors: Mapping[str, float], **options: Any) -> None:
        super().__init__(**options)
        self._factors_by_path = dict(factors)
        self._factors: list[float] = []

    def build(self, variables: list[keras.Variable]) -> None:
        super().build(variables)
        self._factors = [self._factors_by_path.get(variable.path, 1.0) for variable in variables]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        # A backend's own variable has no path; Keras knows it by its place, as the other slots.
        factor = self._factors[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * factor)


def _optimizer(settings: Settings, model: MaskRCNN) -> keras.optimizers.Optimizer:
    total = settings.epochs * settings.steps
    schedule = keras.optimizers.schedules.CosineDecay(
        settings.learning_rate / 100,
        max(1, total - settings.warmup_steps),
        alpha=0.01,
        warmup_target=settings.learning_rate,
        warmup_steps=settings.warmup_steps,
    )
    backbone = [
        variable.path
        for layer in model.trunk.layers
        if layer.name.startswith(("stem", "block"))
        for variable in layer.trainable_variables
    ]
    optimizer = LayerwiseAdamW(
        dict.fromkeys(backbone, settings.backbone_rate),
        learning_rate=schedule,
        weight_decay=settings.weight_decay,
        global_clipnorm=settings.clip_norm,
        use_ema=True,
        ema_momentum=1 - 1 / max(1.0, settings.averaged_share * total),
        ema_overwrite_frequency=None,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
