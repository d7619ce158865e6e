"""What a model file says about itself, as docs/model-file.md defines it, and how that is written into it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from pumpseg.inference.model_file import FORMAT, METADATA_KEY
from pumpseg_train.model.network import MaskRCNN
from pumpseg_train.training.run import FOLDERS


def describe(
    model: MaskRCNN,
    size: tuple[int, int],
    training: Mapping[str, Any] | None = None,
    licence: str = "",
    source_hash: str = "",
) -> dict[str, Any]:
    """The metadata of a model for images of `size` (h, w), without metrics. training: settings of the run."""
    profile, rule = model.profile, model.profile.letterbox
    centred = {"min_side": rule.min_side, "min_scale": rule.min_scale} if rule.is_centred else {}
    return {
        "format": FORMAT,
        "profile": profile.name,
        "classes": list(model.classes),
        "input_size": list(size),
        "letterbox": {"placement": rule.placement, "fill": list(profile.fill), **centred},
        "mask_border": profile.compat.mask_border,
        "score_threshold": profile.score_threshold,
        "nms_threshold": profile.nms_threshold,
        "max_detections": profile.max_detections,
        # Folder names of the training machine are private.
        "training": {name: value for name, value in (training or {}).items() if name not in FOLDERS},
        "metrics": {},
        "licence": licence,
        "source_hash": source_hash,
    }


def read_description(graph: onnx.ModelProto) -> dict[str, Any]:
    """The metadata of a model file's graph."""
    description: dict[str, Any] = json.loads(
        next(entry.value for entry in graph.metadata_props if entry.key == METADATA_KEY)
    )
    return description


def write_model(graph: onnx.ModelProto, description: Mapping[str, Any], path: Path) -> None:
    """Writes a graph with its metadata as a model file."""
    onnx.helper.set_model_props(graph, {METADATA_KEY: json.dumps(description)})
    onnx.save(graph, path)
