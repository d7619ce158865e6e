"""From a run folder to a finished file: assemble, describe, write, verify, measure, rename."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from pumpseg import Segmenter
from pumpseg.errors import PumpsegError
from pumpseg.model_file import FORMAT, METADATA_KEY
from pumpseg.partial_file import PartialFile
from pumpseg_export.assemble import assemble
from pumpseg_export.float16 import store_float16
from pumpseg_export.verify import FLOAT16_WEIGHTS, FLOAT32, Agreement, verify
from pumpseg_train.data.coco import read_dataset
from pumpseg_train.evaluate import Metrics, evaluate
from pumpseg_train.model.network import MaskRCNN
from pumpseg_train.run import BEST_WEIGHTS, load_run, read_settings


@dataclass(frozen=True)
class Report:
    """How the written file compares with Keras, and what it scores."""

    agreement: Agreement
    metrics: Metrics


def export_run(
    run: Path,
    output: Path,
    *,
    size: tuple[int, int] | None = None,
    data: Path | None = None,
    split: str = "val",
    float16: bool = False,
    licence: str = "",
) -> Report:
    """Writes the best model of `run` as the ONNX file `output` for images of `size` (h, w).

    The file gets its name only after it has agreed with Keras on the photos of `data`/`split`
    (by default the run's own validation photos).

    Raises:
        PumpsegError: the run, the size or the data cannot be used, or the file disagrees with Keras.
    """
    model = load_run(run)
    size = size or model.profile.input_size
    if any(side <= 0 or side % model.profile.strides[-1] for side in size):
        raise PumpsegError(f"size {size[1]}x{size[0]}: sides must be multiples of {model.profile.strides[-1]}")
    settings = read_settings(run)
    dataset = read_dataset(data or Path(settings.data), split)
    photos = [photo.path for photo in dataset.photos]

    description = describe(model, size, dataclasses.asdict(settings), licence, _sha256(run / BEST_WEIGHTS))
    partial = PartialFile(output)
    try:
        graph = assemble(model, size)
        if float16:
            graph = store_float16(graph)
        _write(graph, description, partial.path)
        agreement = verify(partial.path, model, size, photos, FLOAT16_WEIGHTS if float16 else FLOAT32)
        metrics = evaluate(dataset, Segmenter(partial.path, provider="cpu", score=0.0))
        description["metrics"] = {"split": split, "photos": len(photos), **metrics.to_json()}
        _write(graph, description, partial.path)
    except BaseException:
        partial.discard()
        raise
    partial.complete()
    return Report(agreement, metrics)


def describe(
    model: MaskRCNN, size: tuple[int, int], training: dict[str, Any], licence: str, source_hash: str
) -> dict[str, Any]:
    """The metadata of a model file, as docs/model-file.md defines it."""
    profile = model.profile
    # Folder names of the machine that trained are nobody's business.
    private = ("data", "start", "extras", "cutouts", "backgrounds")
    return {
        "format": FORMAT,
        "profile": profile.name,
        "classes": list(model.classes),
        "input_size": list(size),
        "letterbox": {"placement": "top-left", "fill": [round(profile.pixel_mean)] * 3},
        "score_threshold": profile.score_threshold,
        "nms_threshold": profile.nms_threshold,
        "max_detections": profile.max_detections,
        "training": {name: value for name, value in training.items() if name not in private},
        "metrics": {},
        "licence": licence,
        "source_hash": source_hash,
    }


def _write(graph: onnx.ModelProto, description: dict[str, Any], path: Path) -> None:
    onnx.helper.set_model_props(graph, {METADATA_KEY: json.dumps(description)})
    onnx.save(graph, path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
