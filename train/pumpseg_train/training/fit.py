"""Fine-tunes a Mask R-CNN on a data set, resuming where it was interrupted."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import keras

from pumpseg.atomic_file import write_text
from pumpseg.errors import DatasetError
from pumpseg.plural import counted
from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.dataset.labelled_set import LabelledSet
from pumpseg_train.evaluation.metrics import read_photo
from pumpseg_train.model.losses import Trainer
from pumpseg_train.model.network import build_mask_rcnn
from pumpseg_train.progress import Progress
from pumpseg_train.samples.batches import BatchSampler
from pumpseg_train.samples.loader import Batches, one_opencv_thread
from pumpseg_train.samples.sources import load_sources
from pumpseg_train.training.callbacks import run_callbacks
from pumpseg_train.training.checkpoint import remove_old, restore
from pumpseg_train.training.initial_weights import check_source, initialise
from pumpseg_train.training.optimizer import make_optimizer
from pumpseg_train.training.predictor import JIT
from pumpseg_train.training.run import FINISHED, STATE, RunError, Settings, read_best, write_settings


def fit(
    settings: Settings, run: Path, *, workers: int = 0, distributed: bool = False, progress: Progress | None = None
) -> None:
    """Trains as `settings` say into the folder `run`; the same call resumes it after a crash.

    Writes `settings.toml`, `best.weights.h5` + `best.json` (the epoch with the highest mask AP),
    `history.csv`, `tensorboard/`, `pictures/`, `state/`, and an empty file `finished` at the end. A finished run is
    left as it is; with more epochs it goes on from its `state/`, at the learning rate that the longer run has there.
    `workers`: processes that draw the samples, see `loader.Batches`.
    `distributed`: split each batch over all devices (`keras.distribution.DataParallel`).
    `progress`: where to report; silent by default.

    Raises:
        DatasetError: the data cannot be used.
        RunError: `run` was started with other settings, there are no weights to initialise from, the loss
            became NaN or infinite, no checkpoint of an interrupted run can be read, or the backend cannot
            distribute.
        SinkError: what the run leaves cannot be written.
    """
    progress = progress or Progress()
    profile = settings.to_profile()
    if settings.average_runs:
        raise RunError("average_runs only records what pumpseg-train --average-runs did: leave it out to train")
    training = read_dataset(Path(settings.data), "train")
    validation = read_dataset(Path(settings.data), "val")
    if training.classes != validation.classes:
        raise DatasetError(f"train has the classes {training.classes}, val has {validation.classes}")
    sources = load_sources(
        training,
        auxiliary=[read_dataset(Path(folder), "train") for folder in settings.auxiliary],
        paste_from=[read_objects(Path(folder)) for folder in settings.paste_from],
        distractors=[read_objects(Path(folder)) for folder in settings.distractors],
        backgrounds=[Path(folder) for folder in settings.backgrounds],
    )
    for dataset in (training, validation):
        if all(annotation.crowd for photo in dataset.photos for annotation in photo.annotations):
            raise DatasetError(f"{dataset.json_path} holds no instances")
    check_source(settings.init_from)
    for photo in validation.photos:
        read_photo(photo)  # fail now rather than after the first epoch
    if distributed:
        _distribute(settings.batch_size)
    write_settings(run, settings, training.classes)
    if (run / FINISHED).exists():
        best = read_best(run)
        progress.note(
            f"{run} is finished: its best epoch is {best['epoch']}, mask AP {best['mask']['ap']:.3f}; "
            f"the same command with --epochs above {settings.epochs} goes on"
        )
        return
    progress.note(_summary(settings, training, validation))

    keras.utils.set_random_seed(settings.seed)
    with _dtype_policy(settings.precision):
        model = build_mask_rcnn(profile, training.classes, imagenet=True)
    transfer = initialise(model, settings.init_from)
    progress.note(transfer.describe())
    trainer = Trainer(model, settings.seed)
    trainer.compile(make_optimizer(settings, model), jit_compile=JIT)
    sampler = BatchSampler(
        sources,
        settings.augmentation,
        size=profile.input_size[0],
        fill=profile.fill[0],
        batch_size=settings.batch_size,
        seed=settings.seed,
    )
    trainer.optimizer.build(trainer.trainable_variables)
    done = restore(trainer, run / STATE, progress)
    with one_opencv_thread(), Batches(sampler, steps=settings.steps, processes=workers) as batches:
        callbacks, shown = run_callbacks(model, validation, batches, settings, run, progress, done)
        with contextlib.closing(shown), batches.original_error():
            # The samples are random already, and drawn ahead in this order.
            trainer.fit(
                batches,
                initial_epoch=done,
                epochs=settings.epochs,
                callbacks=callbacks,
                verbose=0,
                shuffle=False,
            )
    remove_old(run / STATE, kept=1)
    write_text(run / FINISHED, "")


def _summary(settings: Settings, training: LabelledSet, validation: LabelledSet) -> str:
    splits = []
    for split in (training, validation):
        instances = sum(not annotation.crowd for photo in split.photos for annotation in photo.annotations)
        splits.append(f"{counted(len(split.photos), 'image')} with {counted(instances, 'instance')}")
    classes = f"{counted(len(training.classes), 'class', 'classes')} ({', '.join(training.classes)})"
    length = f"{counted(settings.epochs, 'epoch')} of {counted(settings.steps, 'batch', 'batches')}"
    return (
        f"{classes}: training on {splits[0]}, validation on {splits[1]}; {length} of "
        f"{counted(settings.batch_size, 'picture')} of {settings.input_size}x{settings.input_size}"
    )


def read_objects(folder: Path) -> LabelledSet:
    """The data set in a folder or, where that has splits, in its `train`."""
    inside = (folder / "train").is_dir() and not (folder / "annotations.json").is_file()
    return read_dataset(folder, "train" if inside else None)


@contextlib.contextmanager
def _dtype_policy(name: str) -> Iterator[None]:
    """Layers built inside compute in the Keras dtype policy `name`; their variables stay float32."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _distribute(batch_size: int) -> None:
    """Raises RunError when the backend cannot distribute, or the batch does not divide evenly."""
    if keras.backend.backend() != "jax":
        raise RunError(f"{keras.backend.backend()} cannot distribute batches in Keras: use --backend jax")
    devices = len(keras.distribution.list_devices())
    if batch_size % devices:
        raise RunError(f"a batch of {batch_size} does not divide among {devices} devices: use a multiple of {devices}")
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
