"""From trained weights to a finished file: assemble, describe, write, verify, measure, rename."""

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pumpseg.atomic_file import complete_file
from pumpseg.errors import PumpsegError
from pumpseg.video.sources.open import open_source
from pumpseg_export.assemble import assemble, with_score_threshold
from pumpseg_export.float16 import store_float16
from pumpseg_export.measure import describe_metrics, measure
from pumpseg_export.metadata import describe, write_model
from pumpseg_export.static_graph import assemble_static
from pumpseg_export.verifier import Verifier, collect, fit
from pumpseg_export.verify import FLOAT16_WEIGHTS, FLOAT32, Agreement, NamedFrame, VerificationError, verify
from pumpseg_train.dataset.labelled_set import LabelledSet
from pumpseg_train.dataset.photo_file import read_frame
from pumpseg_train.evaluation.metrics import Metrics
from pumpseg_train.matterport.weights_file import load_whole
from pumpseg_train.model.network import MaskRCNN
from pumpseg_train.model.profile import Profile
from pumpseg_train.progress import Progress
from pumpseg_train.training.run import BEST_WEIGHTS, load_run, read_settings

_VERIFIED_THRESHOLD = 0.05  # detections are compared with Keras from this score on, or from the file's own if lower
_DEMO_STRIDE = 40


@dataclass(frozen=True)
class TrainedModel:
    """A model to export, and the file of its weights. training: what the metadata say of it."""

    model: MaskRCNN
    weights: Path
    training: dict[str, Any]

    @classmethod
    def of_run(cls, run: Path) -> "TrainedModel":
        """The best model of a training run. Raises PumpsegError for a run that cannot be used."""
        return cls(load_run(run), run / BEST_WEIGHTS, dataclasses.asdict(read_settings(run)))

    @classmethod
    def of_matterport(cls, weights: Path, profile: Profile, classes: tuple[str, ...]) -> "TrainedModel":
        """The model of a Matterport `.h5`. Raises PumpsegError if weights are missing or not of this profile."""
        return cls(load_whole(weights, profile, classes), weights, {"weights": weights.name})


def run_data(run: Path) -> Path:
    """The data set of a training run."""
    return Path(read_settings(run).data)


@dataclass(frozen=True)
class ExportResult:
    """How the written file compares with Keras, and its metrics; None without data."""

    agreement: Agreement
    metrics: Metrics | None


def export(
    trained: TrainedModel,
    output: Path,
    *,
    size: tuple[int, int] | None = None,
    photos: Sequence[Path] = (),
    data: LabelledSet | None = None,
    float16: bool = False,
    static: bool = False,
    training: LabelledSet | None = None,
    negatives: Sequence[Path] = (),
    progress: Progress | None = None,
    licence: str = "",
    recommended_threshold: float | None = None,
    allow_differences: bool = False,
) -> ExportResult:
    """Writes a model as the ONNX file `output` for images of `size` (h, w), by default that of its profile.

    The file gets its name only after it has agreed with Keras on `photos` and those of `data`, or, with neither,
    on frames of the shipped demo clip. Detections are compared from a lower score than the file's own threshold, since
    the photos may show little of the classes. The metrics are those on `data`. float16: stores weights in half
    precision. static: fixes the number of proposals and detections, for GPUs. training, negatives: labelled photos, and
    photos without any of the classes, which a verifier learns from (`verifier.fit`); the comparison with Keras is that
    of the graph without it. recommended_threshold: what the runtime uses unless the user sets another, 0.5 by default.

    Raises:
        PumpsegError: the size or the photos cannot be used.
        VerificationError: the file disagrees with Keras, or nothing was detected, unless `allow_differences` is set.
    """
    profile = trained.model.profile
    size = size or profile.input_size
    if any(side <= 0 or side % profile.strides[-1] for side in size):
        raise PumpsegError(f"size {size[1]}x{size[0]}: sides must be multiples of {profile.strides[-1]}")
    lowered = dataclasses.replace(profile, score_threshold=min(profile.score_threshold, _VERIFIED_THRESHOLD))
    paths = [*photos, *(photo.path for photo in (data.photos if data else ()))]
    frames = _read_frames(paths) if paths else _demo_frames()
    description = describe(trained.model, size, trained.training, licence, _sha256(trained.weights))
    if recommended_threshold is not None:
        description["recommended_threshold"] = recommended_threshold
    metrics = None
    with complete_file(output) as partial:
        build = assemble_static if static else assemble
        graph = build(trained.model, size)
        if float16:
            graph = store_float16(graph)
        write_model(with_score_threshold(graph, lowered.score_threshold), description, partial)
        keras_model = dataclasses.replace(trained.model, profile=lowered)
        agreement = verify(partial, keras_model, frames, FLOAT16_WEIGHTS if float16 else FLOAT32)
        if not (agreement.sufficient or allow_differences):
            raise VerificationError(f"{agreement} (--allow-differences writes the file all the same)")
        if training and negatives:
            progress = progress or Progress()
            verifier = _fit_verifier(trained.model, size, description, partial, training, negatives, progress)
            description["verifier"] = {"right": verifier.right, "wrong": verifier.wrong, "negatives": len(negatives)}
            graph = build(trained.model, size, verifier)
            if float16:
                graph = store_float16(graph)
        write_model(graph, description, partial)
        if data:
            metrics = measure(partial, data)
            write_model(graph, {**description, "metrics": describe_metrics(data, metrics)}, partial)
    return ExportResult(agreement, metrics)


def _fit_verifier(
    model: MaskRCNN,
    size: tuple[int, int],
    description: dict[str, Any],
    file: Path,
    training: LabelledSet,
    negatives: Sequence[Path],
    progress: Progress,
) -> Verifier:
    """A verifier for a model; file: where its graph is written meanwhile."""
    write_model(assemble(model, size, features=True), description, file)
    with progress.stage("fitting the verifier", len(training.photos) + len(negatives), "photos") as advance:
        detections = collect(file, training, negatives, advance)
    return fit(detections, model.classes)


def _read_frames(photos: Sequence[Path]) -> Iterator[NamedFrame]:
    return ((path.name, read_frame(path)) for path in photos)


def _demo_frames() -> Iterator[NamedFrame]:
    with contextlib.closing(open_source("demo")) as source:
        for frame in source:
            if frame.index % _DEMO_STRIDE == 0:
                yield f"frame {frame.index} of the demo", frame.image


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
