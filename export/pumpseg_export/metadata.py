"""What a model file says about itself, written into it."""

import json
from pathlib import Path
from typing import Any

import onnx

from pumpseg.inference.model_file import METADATA_KEY
from pumpseg_train.dataset.labelled_set import LabelledSet
from pumpseg_train.evaluation.metrics import Metrics


def describe_metrics(split: str, dataset: LabelledSet, metrics: Metrics) -> dict[str, Any]:
    """The metadata's "metrics"."""
    return {"split": split, "photos": len(dataset.photos), **metrics.to_json()}


def write_model(graph: onnx.ModelProto, description: dict[str, Any], path: Path) -> None:
    """Writes a graph with its metadata as a model file."""
    onnx.helper.set_model_props(graph, {METADATA_KEY: json.dumps(description)})
    onnx.save(graph, path)
