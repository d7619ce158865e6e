"""The mean of the weights of several runs: one model, as fast as each of them, often better."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pumpseg.atomic_file import write_json
from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.evaluation.metrics import Metrics, evaluate
from pumpseg_train.training.predictor import predictor
from pumpseg_train.training.run import (
    BEST_METRICS,
    BEST_WEIGHTS,
    FINISHED,
    RunError,
    load_run,
    read_settings,
    save_weights,
    write_settings,
)


def average(runs: Sequence[Path], out: Path, data: Path | None = None) -> Metrics:
    """Makes a run of the mean of the best weights of `runs`, with the settings of the first, and measures it on `val`.

    A run named twice counts twice. This helps where the runs were initialised from each other or from the same weights:
    the features of other runs do not correspond (Wortsman et al. 2022, "Model soups").

    Raises:
        RunError: a run is missing or has no checkpoint yet, classes differ, or `out` is another run.
        DatasetError: the data set (`data`, or that of the first run) cannot be read.
    """
    models = [load_run(run) for run in runs]
    model = models[0]
    for run, other in zip(runs, models, strict=True):
        if (other.profile.name, other.classes) != (model.profile.name, model.classes):
            raise RunError(f"{run} ({other.profile.name}, {other.classes}) does not match {runs[0]} ({model.classes})")
    settings = dataclasses.replace(read_settings(runs[0]), average_runs=tuple(map(str, runs)))
    if data:
        settings = dataclasses.replace(settings, data=str(data))
    validation = read_dataset(Path(settings.data), "val")
    if validation.classes != model.classes:
        raise RunError(f"{runs[0]} knows the classes {model.classes}, the data has {validation.classes}")
    write_settings(out, settings, model.classes)
    if (out / FINISHED).exists():
        raise RunError(f"{out} is finished: give another --out")

    weights = {name: [other.parts[name].get_weights() for other in models] for name in model.parts}
    for name, part in model.parts.items():
        part.set_weights([np.mean(arrays, axis=0, dtype=np.float64) for arrays in zip(*weights[name], strict=True)])
    metrics = evaluate(validation, predictor(model))
    save_weights(model, out / BEST_WEIGHTS)
    write_json(out / BEST_METRICS, {"epoch": 0, **metrics.to_json()})
    (out / FINISHED).touch()
    return metrics
