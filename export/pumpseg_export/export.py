"""From a run folder to a finished file: assemble, describe, write, verify, measure, rename."""

import contextlib
import dataclasses
import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from pumpseg import Segmenter
from pumpseg.atomic_file import PartialFile
from pumpseg.errors import PumpsegError
from pumpseg.inference.model_file import FORMAT
from pumpseg.video.sources.open import open_source
from pumpseg_export.assemble import assemble, with_score_threshold
from pumpseg_export.float16 import store_float16
from pumpseg_export.metadata import describe_metrics, write_model
from pumpseg_export.verify import FLOAT16_WEIGHTS, FLOAT32, Agreement, verify
from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.dataset.labelled_set import LabelledSet
from pumpseg_train.evaluation.metrics import Metrics, evaluate
from pumpseg_train.matterport.weights_file import load_whole
from pumpseg_train.model.network import MaskRCNN
from pumpseg_train.model.profile import Profile
from pumpseg_train.training.run import BEST_WEIGHTS, FOLDERS, load_run, read_settings

_VERIFIED_FROM = 0.05  # the score from which on detections are compared with Keras, where the file begins higher


@dataclass(frozen=True)
class Report:
    """How the written file compares with Keras, and what it scores."""

    agreement: Agreement
    metrics: Metrics | None  # None without a data set


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
    size = _check_size(size, model.profile)
    settings = read_settings(run)
    dataset = read_dataset(data or Path(settings.data), split)
    description = describe(model, size, dataclasses.asdict(settings), licence, _sha256(run / BEST_WEIGHTS))
    photos = [photo.path for photo in dataset.photos]
    return _export(model, size, output, description, photos, dataset, split, float16)


def export_weights(
    weights: Path,
    output: Path,
    profile: Profile,
    classes: tuple[str, ...],
    *,
    size: tuple[int, int] | None = None,
    photos: Sequence[Path] = (),
    data: Path | None = None,
    split: str = "val",
    float16: bool = False,
    licence: str = "",
) -> Report:
    """Writes the model of a Matterport `.h5` as the ONNX file `output` for images of `size` (h, w).

    The file gets its name only after it has agreed with Keras on `photos` and on those of `data`/`split`, or, where
    neither is given, on frames of the shipped demo clip. There detections count from a lower score than in the file,
    for the photos may show little of the classes. AP is measured on `data` only.

    Raises:
        PumpsegError: the weights are not all there or not of this profile and these classes, the size or the data
            cannot be used, or the file disagrees with Keras.
    """
    size = _check_size(size, profile)
    dataset = read_dataset(data, split) if data else None
    model = load_whole(weights, profile, classes)
    description = describe(model, size, {"weights": weights.name}, licence, _sha256(weights))
    paths = [*photos, *(photo.path for photo in dataset.photos)] if dataset else list(photos)
    with tempfile.TemporaryDirectory() as folder:
        return _export(model, size, output, description, paths or _demo_frames(Path(folder)), dataset, split, float16)


def _check_size(size: tuple[int, int] | None, profile: Profile) -> tuple[int, int]:
    size = size or profile.input_size
    if any(side <= 0 or side % profile.strides[-1] for side in size):
        raise PumpsegError(f"size {size[1]}x{size[0]}: sides must be multiples of {profile.strides[-1]}")
    return size


def _export(
    model: MaskRCNN,
    size: tuple[int, int],
    output: Path,
    description: dict[str, Any],
    photos: list[Path],
    dataset: LabelledSet | None,
    split: str,
    float16: bool,
) -> Report:
    """Assembles, writes, verifies, measures, renames."""
    profile = model.profile
    lowered = dataclasses.replace(profile, score_threshold=min(profile.score_threshold, _VERIFIED_FROM))
    metrics = None
    partial = PartialFile(output)
    try:
        graph = assemble(model, size)
        if float16:
            graph = store_float16(graph)
        write_model(with_score_threshold(graph, lowered.score_threshold), description, partial.path)
        tolerance = FLOAT16_WEIGHTS if float16 else FLOAT32
        agreement = verify(partial.path, dataclasses.replace(model, profile=lowered), photos, tolerance)
        write_model(graph, description, partial.path)
        if dataset:
            metrics = evaluate(dataset, Segmenter(partial.path, provider="cpu", threshold=0.0))
            description["metrics"] = describe_metrics(split, dataset, metrics)
            write_model(graph, description, partial.path)
    except BaseException:
        partial.discard()
        raise
    partial.complete()
    return Report(agreement, metrics)


def _demo_frames(folder: Path) -> list[Path]:
    """Some frames of the shipped demo clip as images in `folder`."""
    paths = []
    with contextlib.closing(open_source("demo")) as source:
        for frame in source:
            if frame.index % 40 == 0:
                paths.append(folder / f"{frame.index}.png")
                cv2.imwrite(str(paths[-1]), frame.image)
    return paths


def describe(
    model: MaskRCNN, size: tuple[int, int], training: dict[str, Any], licence: str, source_hash: str
) -> dict[str, Any]:
    """The metadata of a model file, as docs/model-file.md defines it."""
    profile = model.profile
    return {
        "format": FORMAT,
        "profile": profile.name,
        "classes": list(model.classes),
        "input_size": list(size),
        "letterbox": _describe_letterbox(profile),
        "mask_border": profile.compat.mask_border,
        "score_threshold": profile.score_threshold,
        "nms_threshold": profile.nms_threshold,
        "max_detections": profile.max_detections,
        # Folder names of the machine that trained are nobody's business.
        "training": {name: value for name, value in training.items() if name not in FOLDERS},
        "metrics": {},
        "licence": licence,
        "source_hash": source_hash,
    }


def _describe_letterbox(profile: Profile) -> dict[str, Any]:
    rule = profile.letterbox
    description: dict[str, Any] = {"placement": rule.placement, "fill": list(profile.fill)}
    return description | ({"min_side": rule.min_side, "min_scale": rule.min_scale} if rule.is_centred else {})


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
