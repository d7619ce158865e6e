"""Fine-tunes a Mask R-CNN: optimizer, schedule, validation, checkpoints, resuming."""

import contextlib
import importlib.util
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np

from pumpseg.atomic_file import write_json
from pumpseg.errors import DatasetError
from pumpseg.inference.letterbox import letterbox
from pumpseg.instances import Instances
from pumpseg_train.dataset.annotations import Dataset, read_dataset
from pumpseg_train.evaluation.evaluate import Predict, evaluate, read_photo
from pumpseg_train.evaluation.prediction_sheet import Pictures
from pumpseg_train.model.detect import Detector
from pumpseg_train.model.losses import Trainer
from pumpseg_train.model.network import MaskRCNN, build_mask_rcnn
from pumpseg_train.samples.augment import gather
from pumpseg_train.samples.batches import BatchSampler
from pumpseg_train.samples.loader import Batches
from pumpseg_train.training.run import (
    BEST_METRICS,
    BEST_WEIGHTS,
    FINISHED,
    RunError,
    Settings,
    load_run,
    save_weights,
    write_settings,
)

# Without it JAX compiles every operation alone. For TensorFlow on CPUs, XLA is several times slower than its own graph.
JIT = keras.backend.backend() == "jax"


def fit(
    settings: Settings, run: Path, *, workers: int = 0, distributed: bool = False, verbose: int | str = "auto"
) -> None:
    """Trains as `settings` say into the folder `run`; the same call again resumes after a crash.

    Writes `settings.toml`, `best.weights.h5` + `best.json` (the epoch with the highest mask AP),
    `history.csv`, `tensorboard/`, `pictures/`, `state/` while unfinished, and an empty file `finished`.
    `workers` are processes that draw the samples, see `loader.Batches`.
    `distributed` shares each batch among all devices (`keras.distribution.DataParallel`).

    Raises:
        DatasetError: the data cannot be used as it is.
        RunError: `run` was started with other settings, the run to start from does not fit, the loss
            left the numbers, or the backend cannot distribute.
    """
    profile = settings.to_profile()
    if settings.average:
        raise RunError("average names the runs that pumpseg-train --average makes one of: leave it out to train")
    training = read_dataset(Path(settings.data), "train")
    validation = read_dataset(Path(settings.data), "val")
    if training.classes != validation.classes:
        raise DatasetError(f"train has the classes {training.classes}, val has {validation.classes}")
    material = gather(
        training,
        extras=[read_dataset(Path(folder), "train") for folder in settings.extras],
        cutouts=[_objects(Path(folder)) for folder in settings.cutouts],
        others=[_objects(Path(folder)) for folder in settings.others],
        backgrounds=[Path(folder) for folder in settings.backgrounds],
    )
    for dataset in (training, validation):
        if all(annotation.crowd for photo in dataset.photos for annotation in photo.annotations):
            raise DatasetError(f"{dataset.json_path} holds no instances")
    earlier = load_run(Path(settings.start)) if settings.start else None
    if earlier and earlier.classes != training.classes:
        raise RunError(f"{settings.start} knows the classes {earlier.classes}, the data has {training.classes}")
    for photo in validation.photos:
        read_photo(photo)  # better told now than after the first epoch
    if distributed:
        _distribute(settings.batch_size)
    write_settings(run, settings, training.classes)
    if (run / FINISHED).exists():
        raise RunError(f"{run} is finished: give another --out, with --start {run} to go on from it")

    keras.utils.set_random_seed(settings.seed)
    with _dtype_policy(settings.precision):
        model = build_mask_rcnn(profile, training.classes, imagenet=earlier is None)
    if earlier:
        for name, part in model.parts.items():
            part.set_weights(earlier.parts[name].get_weights())
    trainer = Trainer(model, settings.seed)
    trainer.compile(_optimizer(settings, model), jit_compile=JIT)
    drawing = BatchSampler(
        material,
        settings.recipe,
        size=profile.input_size[0],
        fill=profile.fill[0],
        batch_size=settings.batch_size,
        seed=settings.seed,
    )
    trainer.optimizer.build(trainer.trainable_variables)
    with one_opencv_thread(), Batches(drawing, steps=settings.steps, processes=workers) as batches:
        # The backup comes after the validation: an epoch that was not validated to its end is done again.
        # Its folder is kept until the run is marked as finished.
        callbacks = [
            _RandomOrder(batches, settings.seed),
            _Speed(batches, settings.batch_size),
            _Validate(model, validation, run, settings),
            keras.callbacks.CSVLogger(run / "history.csv", append=True),
            *_tensorboard(run),
            keras.callbacks.BackupAndRestore(run / "state", double_checkpoint=True, delete_checkpoint=False),
            _StopAtNaN(settings),
        ]
        with batches.original_error():
            # Batches are drawn at random already, and ahead in their order.
            trainer.fit(batches, epochs=settings.epochs, callbacks=callbacks, verbose=verbose, shuffle=False)
    (run / FINISHED).touch()
    shutil.rmtree(run / "state", ignore_errors=True)


def _objects(folder: Path) -> Dataset:
    """Labelled photos in a folder, or in its `train`."""
    inside = (folder / "train").is_dir() and not (folder / "annotations.json").is_file()
    return read_dataset(folder, "train" if inside else None)


@contextlib.contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Samples are drawn in threads of their own, and more would fight with the training step."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def predictor(model: MaskRCNN) -> Predict:
    """Frame -> instances with Keras, letterboxed as the runtime does."""
    detector = Detector(model)
    detector.compile(jit_compile=JIT)
    profile = model.profile

    def predict(frame: np.ndarray) -> Instances:
        image, place = letterbox(frame, profile.input_size, profile.fill, swap_red_blue=True, rule=profile.letterbox)
        found = detector.predict_on_batch(image[None])
        valid = found["valid"][0]
        return Instances.in_frame(
            place.to_frame(found["boxes"][0][valid]),
            found["scores"][0][valid],
            found["class_ids"][0][valid].astype(np.int64),
            found["masks"][0][valid],
            frame.shape[:2],
            model.classes,
            "fade" if profile.fade_masks else "replicate",
        )

    return predict


class _Validate(keras.callbacks.Callback):
    """After each epoch: COCO AP of the averaged weights on `val` into the logs, and the best ones to disk.

    Draws the results now and then, and ends the run when it has long not become better.
    """

    def __init__(self, model: MaskRCNN, dataset: Dataset, run: Path, settings: Settings) -> None:
        super().__init__()
        self._mask_rcnn, self._dataset, self._run, self._settings = model, dataset, run, settings
        self._predict = predictor(model)
        self._average = keras.callbacks.SwapEMAWeights()
        path = run / BEST_METRICS
        self._best, self._best_epoch = -1.0, 0
        if path.is_file():
            best = json.loads(path.read_text(encoding="utf-8"))
            self._best, self._best_epoch = best["mask"]["ap"], best["epoch"]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        number = epoch + 1
        every = self._settings.pictures_every
        drawn = Pictures(self._predict) if every and number % every == 0 else None
        self._average.set_model(self.model)
        self._average.on_test_begin()
        try:
            metrics = evaluate(self._dataset, drawn or self._predict)
            if metrics.mask.ap > self._best:
                self._best, self._best_epoch = metrics.mask.ap, number
                save_weights(self._mask_rcnn, self._run / BEST_WEIGHTS)
                write_json(self._run / BEST_METRICS, {"epoch": number, **metrics.to_json()})
        finally:
            self._average.on_test_end()
        if drawn:
            drawn.save(self._run / "pictures" / f"epoch{number:03d}.jpg")
        if logs is not None:
            logs.update(
                val_mask_ap=metrics.mask.ap,
                val_mask_ap50=metrics.mask.ap50,
                val_box_ap=metrics.box.ap,
                val_box_ap50=metrics.box.ap50,
            )
        if self._settings.patience and number - self._best_epoch >= self._settings.patience:
            self.model.stop_training = True


class _Speed(keras.callbacks.Callback):
    """Training images a second and the share of the time in which none was ready, into the logs of each epoch."""

    def __init__(self, batches: Batches, batch_size: int) -> None:
        super().__init__()
        self._batches = batches
        self._images = len(batches) * batch_size

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._batches.waited = 0.0
        self._begin = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        seconds = time.perf_counter() - self._begin
        if logs is not None:
            logs.update(images_per_second=self._images / seconds, waiting_share=self._batches.waited / seconds)


class _RandomOrder(keras.callbacks.Callback):
    """Gives each epoch its own samples and its own draws of anchors and RoIs, also when a run is resumed there."""

    def __init__(self, batches: Batches, seed: int) -> None:
        super().__init__()
        self._batches = batches
        self._seed = seed

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._batches.epoch = epoch
        # Keras saves no seed generators. Each draw counts the second number up by one.
        dropouts = [layer for layer in self.model.box_head.layers if isinstance(layer, keras.layers.Dropout)]
        for number, owner in enumerate([self.model, *dropouts]):
            owner.seed_generator.state.assign([self._seed + number, epoch << 20])


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


@contextlib.contextmanager
def _dtype_policy(name: str) -> Iterator[None]:
    """Layers built inside compute as the Keras dtype policy `name` says; their variables stay float32."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _distribute(batch_size: int) -> None:
    """Raises: RunError when the backend has no distribution, or the batch cannot be shared out evenly."""
    if keras.backend.backend() != "jax":
        raise RunError(f"{keras.backend.backend()} cannot share batches among devices in Keras: use --backend jax")
    devices = len(keras.distribution.list_devices())
    if batch_size % devices:
        raise RunError(f"a batch of {batch_size} cannot be shared among {devices} devices: take a multiple of it")
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))


def _tensorboard(run: Path) -> list[keras.callbacks.Callback]:
    """The callback that writes what TensorBoard shows, where it is installed, and TensorFlow, with which Keras does."""
    if any(importlib.util.find_spec(name) is None for name in ("tensorboard", "tensorflow")):
        return []
    return [keras.callbacks.TensorBoard(run / "tensorboard", write_graph=False)]


def _optimizer(settings: Settings, model: MaskRCNN) -> keras.optimizers.Optimizer:
    total = settings.epochs * settings.steps  # Keras counts batches here, also those that only add up gradients
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
        gradient_accumulation_steps=settings.accumulate if settings.accumulate > 1 else None,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
