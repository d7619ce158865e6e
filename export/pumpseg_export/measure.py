"""How well a model file detects the instances of a data set."""

from pathlib import Path
from typing import Any

from pumpseg import Segmenter
from pumpseg_train.dataset.labelled_set import LabelledSet
from pumpseg_train.evaluation.metrics import Metrics, evaluate


def measure(file: Path, data: LabelledSet) -> Metrics:
    """The metrics of a model file on the CPU, with the lowest threshold that it allows."""
    return evaluate(data, Segmenter(file, provider="cpu", threshold=0.0))


def describe_metrics(data: LabelledSet, metrics: Metrics) -> dict[str, Any]:
    """The "metrics" of a file's metadata, measured on one split of a data set."""
    (split,) = data.splits
    return {"split": split, "photos": len(data.photos), **metrics.to_json()}
