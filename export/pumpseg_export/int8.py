"""From a float32 model file to an int8 one: calibrate, quantise, measure both files, rename."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from pumpseg.atomic_file import complete_file
from pumpseg.errors import PumpsegError
from pumpseg.inference.model import Model
from pumpseg_export.float16 import restore_float32, store_float16
from pumpseg_export.measure import describe_metrics, measure
from pumpseg_export.metadata import read_description, write_model
from pumpseg_export.quantise import MASK_HEAD, TRUNK, quantise
from pumpseg_train.dataset.labelled_set import LabelledSet
from pumpseg_train.dataset.photo_file import read_frame
from pumpseg_train.evaluation.metrics import Metrics


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

    def model_inputs(self, model: Model) -> list[NDArray[np.uint8]]:
        """The photos as the model's input, uint8 (1, H, W, 3) RGB. Raises PumpsegError for one that is damaged."""
        photos = list(self.photos)
        if len(photos) > self.count:
            photos = random.Random(0).sample(photos, self.count)
        return [model.prepare(read_frame(photo))[0].copy() for photo in photos]


@dataclass(frozen=True)
class Int8Result:
    """The file that was made of a float32 one.

    parts: what computes in int8. method: of the calibration. The metrics are those of both files, None without a test
    set. lossy: more mask AP is lost than the limit allows.
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

    def describe(self) -> dict[str, Any]:
        """The "quantisation" of the file's metadata."""
        described = {"type": "int8", "parts": list(self.parts), "method": self.method, "photos": self.photos}
        return described | ({"mask_ap_loss": self.loss} if self.int8 else {})


def export_int8(
    source: Path,
    output: Path,
    calibration: Calibration,
    *,
    data: LabelledSet | None = None,
    max_ap_loss: float = 0.01,
    allow_ap_loss: bool = False,
    float16: bool = False,
    recommended_threshold: float | None = None,
) -> Int8Result:
    """Writes the float32 model file `source` (weights in half precision or not) as the int8 file `output`.

    The trunk and the mask head compute in int8; the box head, which decides on classes and takes little time, in
    float32. With `data` both files are measured on it: where mask AP falls by more than `max_ap_loss` (0..1), the
    next method is tried, and then all of them with the mask head in float32, too. float16: stores what stays float32 in
    half precision.

    Raises:
        ModelFileError: the source is not a model file.
        PumpsegError: it is int8 already, or the photos cannot be used.
        AccuracyError: every attempt loses more than `max_ap_loss`, and `allow_ap_loss` is not set; if it is, the file
            that loses least is written.
    """
    plain = Model.open(source, "cpu")
    if plain.info.precision != "float32":
        raise PumpsegError(f"{source} is {plain.info.precision} already: name the float32 file")
    images = calibration.model_inputs(plain)
    before = measure(source, data) if data else None
    graph = onnx.load(source, load_external_data=False)
    description = read_description(graph) | {"metrics": {}}
    if recommended_threshold is not None:  # else that of the source
        description["recommended_threshold"] = recommended_threshold
    with complete_file(output) as partial:
        best: tuple[Int8Result, onnx.ModelProto] | None = None
        for method, parts, quantised in _candidates(restore_float32(graph), images, calibration.methods):
            stored = store_float16(quantised) if float16 else quantised
            write_model(stored, description | {"quantisation": {"type": "int8"}}, partial)
            after = measure(partial, data) if data else None
            result = Int8Result(len(images), parts, method, before, after, _loss(before, after) > max_ap_loss)
            if best is None or result.loss < best[0].loss:
                best = result, stored
            if not result.lossy:
                break
        assert best is not None
        result, stored = best
        if result.lossy and not allow_ap_loss:
            raise AccuracyError(
                f"int8 loses {result.loss:.3f} mask AP, more than {max_ap_loss:g}: calibrate on more photos, or by "
                "another --calibration-method"
            )
        description["quantisation"] = result.describe()
        if data and result.int8:
            description["metrics"] = describe_metrics(data, result.int8)
        write_model(stored, description, partial)
    return result


def _candidates(
    graph: onnx.ModelProto, images: Sequence[NDArray[np.uint8]], methods: Sequence[str]
) -> Iterator[tuple[str, tuple[str, ...], onnx.ModelProto]]:
    """Method, parts and graph of every attempt, the fastest file first."""
    trunks = {}
    for method in methods:
        trunks[method] = quantise(graph, TRUNK, images, method)
        yield method, (TRUNK, MASK_HEAD), quantise(trunks[method], MASK_HEAD, images, method)
    for method, trunk in trunks.items():
        yield method, (TRUNK,), trunk


def _loss(float32: Metrics | None, int8: Metrics | None) -> float:
    return float32.mask.ap - int8.mask.ap if float32 and int8 else 0.0
