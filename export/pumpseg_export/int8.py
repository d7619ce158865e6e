"""From a float32 model file to an int8 one: calibrate, quantise, measure beside the float file, rename."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from pumpseg import Segmenter
from pumpseg.atomic_file import PartialFile
from pumpseg.errors import PumpsegError
from pumpseg.inference.model_file import METADATA_KEY
from pumpseg_export.float16 import restore_float32, store_float16
from pumpseg_export.metadata import describe_metrics, write_model
from pumpseg_export.quantise import MASK_HEAD, TRUNK, quantise
from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.dataset.photo_file import read_frame
from pumpseg_train.evaluation.metrics import Metrics, evaluate


class AccuracyError(PumpsegError, RuntimeError):
    """The int8 file loses more AP than is allowed."""


@dataclass(frozen=True)
class Calibration:
    """Where the ranges of activations come from: `count` of the `photos`, drawn at random but always the same.

    methods: some of quantise.METHODS, tried in this order until one loses little enough.
    """

    photos: Sequence[Path]
    count: int
    methods: Sequence[str]


@dataclass(frozen=True)
class Int8Report:
    """parts: what computes in int8. method: of the calibration. The metrics are those of both files, None without data.

    lossy: more AP is lost than the limit that was given.
    """

    photos: int
    parts: tuple[str, ...]
    method: str
    float32: Metrics | None
    int8: Metrics | None
    lossy: bool

    @property
    def loss(self) -> float:
        """How much mask AP int8 costs; negative where it gains."""
        return _loss(self.float32, self.int8)


def export_int8(
    source: Path,
    output: Path,
    calibration: Calibration,
    *,
    data: Path | None = None,
    split: str = "val",
    max_ap_loss: float = 0.01,
    allow_ap_loss: bool = False,
    float16: bool = False,
) -> Int8Report:
    """Writes the float32 model file `source` (weights in half precision or not) as the int8 file `output`.

    The trunk and the mask head compute in int8, the box head in float32, which decides on classes and takes little
    time. With `data`, both files are measured on its `split`; where AP falls by more than `max_ap_loss` (0..1), the
    next method is tried, and then all of them with the mask head in float32, too. float16: store what stays float32 in
    half precision.

    Raises:
        ModelFileError: the source is no model file.
        PumpsegError: it is int8 already, the photos or the data cannot be used.
        AccuracyError: the loss of mask AP is above `max_ap_loss` all the same, and not allowed; if it is, the file
            that loses least is written.
    """
    plain = Segmenter(source, provider="cpu", threshold=0.0)
    if plain.info.precision != "float32":
        raise PumpsegError(f"{source} is {plain.info.precision} already: name the float32 file")
    dataset = read_dataset(data, split) if data else None
    paths = list(calibration.photos)
    if len(paths) > calibration.count:
        paths = random.Random(0).sample(paths, calibration.count)
    images = [plain.model.prepare(read_frame(path))[0].copy() for path in paths]
    before = evaluate(dataset, plain) if dataset else None

    graph = onnx.load(source)
    description = json.loads(next(entry.value for entry in graph.metadata_props if entry.key == METADATA_KEY))
    description["metrics"] = {}
    partial = PartialFile(output)
    try:
        best: tuple[Int8Report, onnx.ModelProto] | None = None
        for method, parts, quantised in _candidates(restore_float32(graph), images, calibration.methods):
            made = store_float16(quantised) if float16 else quantised
            description["quantisation"] = _quantisation(method, parts, len(paths))
            write_model(made, description, partial.path)
            after = evaluate(dataset, Segmenter(partial.path, provider="cpu", threshold=0.0)) if dataset else None
            report = Int8Report(len(paths), parts, method, before, after, _loss(before, after) > max_ap_loss)
            if best is None or report.loss < best[0].loss:
                best = report, made
            if not report.lossy:
                break
        assert best is not None
        report, made = best
        if report.lossy and not allow_ap_loss:
            raise AccuracyError(
                f"int8 loses {report.loss:.3f} mask AP, more than {max_ap_loss:g}: calibrate on more photos, or by "
                "another --calibration-method"
            )
        description["quantisation"] = _quantisation(report.method, report.parts, len(paths))
        if dataset and report.int8:
            description["quantisation"]["mask_ap_loss"] = report.loss
            description["metrics"] = describe_metrics(split, dataset, report.int8)
        write_model(made, description, partial.path)
    except BaseException:
        partial.discard()
        raise
    partial.complete()
    return report


def _candidates(
    graph: onnx.ModelProto, images: Sequence[NDArray[np.uint8]], methods: Sequence[str]
) -> Iterator[tuple[str, tuple[str, ...], onnx.ModelProto]]:
    """Method, parts and graph of what to try, the fastest first."""
    trunks = {}
    for method in methods:
        trunks[method] = quantise(graph, TRUNK, images, method)
        yield method, (TRUNK, MASK_HEAD), quantise(trunks[method], MASK_HEAD, images, method)
    for method, trunk in trunks.items():
        yield method, (TRUNK,), trunk


def _quantisation(method: str, parts: Sequence[str], photos: int) -> dict[str, Any]:
    return {"type": "int8", "parts": list(parts), "method": method, "photos": photos}


def _loss(float32: Metrics | None, int8: Metrics | None) -> float:
    return float32.mask.ap - int8.mask.ap if float32 and int8 else 0.0
