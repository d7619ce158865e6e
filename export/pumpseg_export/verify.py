"""Runs the written file in ONNX Runtime beside Keras on real photos."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pumpseg.errors import PumpsegError
from pumpseg.inference.model import Model
from pumpseg_train.dataset.photo_file import read_frame
from pumpseg_train.model.detect import Detector
from pumpseg_train.model.network import MaskRCNN


class VerificationError(PumpsegError, RuntimeError):
    """The exported file does not do what the Keras model does."""


@dataclass(frozen=True)
class Tolerance:
    """Largest differences of one detection: box corners in input pixels, score, mean over the mask cells.

    share: of the detections that must agree so. Overlaps that touch a threshold may fall either way, and with rounded
    weights boxes that touch the size between two pyramid levels, which are then pooled otherwise.
    """

    box: float
    score: float
    mask: float
    share: float


FLOAT32 = Tolerance(box=0.05, score=1e-3, mask=1e-3, share=0.98)
FLOAT16_WEIGHTS = Tolerance(box=2.0, score=0.05, mask=0.02, share=0.9)


@dataclass(frozen=True)
class Agreement:
    """How many detections of the two agree, and the largest differences among those."""

    photos: int
    detections: int
    agreeing: int
    box: float
    score: float
    mask: float


def verify(file: Path, model: MaskRCNN, photos: Iterable[Path], tolerance: Tolerance) -> Agreement:
    """Compares the detections of both sides as sets, down to the score threshold that the file has.

    Raises:
        VerificationError: fewer than `tolerance.share` agree, or nothing was detected and so nothing compared.
    """
    opened = Model.open(file, "cpu")
    detector = Detector(model)
    detector.compile(jit_compile=False)
    rows: list[tuple[float, float, float]] = []
    count = 0
    for path in photos:
        count += 1
        image, _ = opened.prepare(read_frame(path))
        exported = opened.run(image)._asdict()
        found = detector.predict_on_batch(image)
        reference = {name: found[name][0][found["valid"][0]] for name in exported}
        # What lies within the tolerance of the score threshold may rightly fall on either side of it.
        least = model.profile.score_threshold + tolerance.score
        rows += compare(reference, exported, least) + compare(exported, reference, least)
    differences = np.array(rows).reshape(-1, 3)
    agrees = (differences <= (tolerance.box, tolerance.score, tolerance.mask)).all(axis=1)
    if not len(rows):
        raise VerificationError(
            f"nothing was detected in {count} photos, so the file could not be compared with Keras: "
            "name photos that show the classes"
        )
    if agrees.mean() < tolerance.share:
        raise VerificationError(
            f"{np.count_nonzero(~agrees)} of {len(rows)} detections in {count} photos differ from Keras by more "
            f"than {tolerance}"
        )
    return Agreement(count, len(rows), int(agrees.sum()), *(float(x) for x in differences[agrees].max(axis=0)))


def compare(wanted: dict[str, Any], given: dict[str, Any], least_score: float) -> list[tuple[float, float, float]]:
    """For each wanted detection from `least_score` its distance in box, score and mask to the nearest given one."""
    rows = []
    for box, score, class_id, mask in zip(
        wanted["boxes"], wanted["scores"], wanted["class_ids"], wanted["masks"], strict=True
    ):
        if score < least_score:
            continue
        candidates = np.flatnonzero(given["class_ids"] == class_id)
        distances = np.abs(given["boxes"][candidates] - box).max(axis=1)
        if not len(candidates):
            rows.append((np.inf, np.inf, np.inf))
            continue
        nearest = candidates[distances.argmin()]
        rows.append(
            (
                float(distances.min()),
                float(abs(given["scores"][nearest] - score)),
                float(np.abs(given["masks"][nearest] - mask).mean()),
            )
        )
    return rows
