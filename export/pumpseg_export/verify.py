"""Compares the written file in ONNX Runtime with Keras on real photos."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pumpseg.errors import PumpsegError
from pumpseg.inference.model import Model
from pumpseg_train.model.detect import Detector
from pumpseg_train.model.network import MaskRCNN

NamedFrame: TypeAlias = tuple[str, NDArray[np.uint8]]  # a frame, uint8 BGR (H, W, 3), and what messages call it


class VerificationError(PumpsegError, RuntimeError):
    """The exported file does not do what the Keras model does."""


@dataclass(frozen=True)
class Tolerance:
    """Largest differences of one detection: box corners in input pixels, score, mean over the mask cells.

    share: of the detections that must agree so. Overlaps close to a threshold may fall either way, and with rounded
    weights boxes close to the size between two pyramid levels, which are then pooled from the other one.
    """

    box: float
    score: float
    mask: float
    share: float

    def __str__(self) -> str:
        return f"{self.box:g} px, score {self.score:g} or mask {self.mask:g}"


FLOAT32 = Tolerance(box=0.05, score=1e-3, mask=1e-3, share=0.98)
FLOAT16_WEIGHTS = Tolerance(box=2.0, score=0.05, mask=0.02, share=0.9)


@dataclass(frozen=True)
class Difference:
    """How far one detection is from the nearest of its class on the other side; infinite if there is none.

    at: corners xyxy in input pixels. frame: its name.
    """

    box: float
    score: float
    mask: float
    at: tuple[float, ...]
    frame: str = ""

    def within(self, tolerance: Tolerance) -> bool:
        return self.box <= tolerance.box and self.score <= tolerance.score and self.mask <= tolerance.mask

    def __str__(self) -> str:
        place = f"at {', '.join(f'{value:.0f}' for value in self.at)} in {self.frame}"
        if np.isinf(self.box):
            return f"one {place} has no counterpart"
        return f"one {place} by {self.box:.3g} px, score {self.score:.3g} and mask {self.mask:.3g}"


@dataclass(frozen=True)
class Agreement:
    """The comparison of both sides on some frames. differences: one of each detection of either side."""

    frames: int
    differences: tuple[Difference, ...]
    tolerance: Tolerance

    @property
    def agreeing(self) -> list[Difference]:
        return [difference for difference in self.differences if difference.within(self.tolerance)]

    @property
    def sufficient(self) -> bool:
        return len(self.agreeing) >= self.tolerance.share * len(self.differences)

    def __str__(self) -> str:
        agreeing, count = self.agreeing, len(self.differences)
        if self.sufficient:
            box, score, mask = (max(getattr(d, name) for d in agreeing) for name in ("box", "score", "mask"))
            return (
                f"{len(agreeing)} of {count} detections on {self.frames} photos agree with Keras (differing by at most "
                f"{box:.3g} px, score {score:.3g}, mask {mask:.3g})"
            )
        worst = sorted((d for d in self.differences if not d.within(self.tolerance)), key=lambda d: (-d.box, -d.score))
        return (
            f"{count - len(agreeing)} of {count} detections on {self.frames} photos differ from Keras by more than "
            f"{self.tolerance} ({1 - self.tolerance.share:.0%} may): {'; '.join(map(str, worst[:2]))}"
        )


def verify(file: Path, model: MaskRCNN, frames: Iterable[NamedFrame], tolerance: Tolerance) -> Agreement:
    """Compares the detections of both sides as sets, down to the score threshold of `model`.

    Raises:
        VerificationError: fewer than `tolerance.share` agree, or nothing was detected and so nothing compared.
    """
    opened = Model.open(file, "cpu")
    detector = Detector(model)
    detector.compile(jit_compile=False)
    # Detections this close to the threshold may be above it on one side only.
    min_score = model.profile.score_threshold + tolerance.score
    differences: list[Difference] = []
    count = 0
    for name, frame in frames:
        count += 1
        image, _ = opened.prepare(frame)
        exported = opened.run(image)._asdict()
        detected = detector.predict_on_batch(image)
        reference = {output: detected[output][0][detected["valid"][0]] for output in exported}
        differences += compare(reference, exported, min_score, name) + compare(exported, reference, min_score, name)
    if not differences:
        raise VerificationError(
            f"nothing was detected on {count} photos, so the file could not be compared with Keras: "
            "name photos that show the classes"
        )
    agreement = Agreement(count, tuple(differences), tolerance)
    if not agreement.sufficient:
        raise VerificationError(str(agreement))
    return agreement


def compare(wanted: Mapping[str, Any], given: Mapping[str, Any], min_score: float, frame: str = "") -> list[Difference]:
    """The difference of each wanted detection with a score of at least `min_score` to the nearest given one.

    wanted, given: outputs of a model file by name (docs/model-file.md).
    """
    differences = []
    for box, score, class_id, mask in zip(*(wanted[name] for name in _OUTPUTS), strict=True):
        if score < min_score:
            continue
        candidates = np.flatnonzero(given["class_ids"] == class_id)
        at = tuple(map(float, box))
        if not len(candidates):
            differences.append(Difference(np.inf, np.inf, np.inf, at, frame))
            continue
        distances = np.abs(given["boxes"][candidates] - box).max(axis=1)
        nearest = candidates[distances.argmin()]
        score_distance = float(abs(given["scores"][nearest] - score))
        mask_distance = float(np.abs(given["masks"][nearest] - mask).mean())
        differences.append(Difference(float(distances.min()), score_distance, mask_distance, at, frame))
    return differences


_OUTPUTS = ("boxes", "scores", "class_ids", "masks")
