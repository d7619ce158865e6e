"""Compares the written file in ONNX Runtime with Keras on real photos."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pumpseg.errors import PumpsegError
from pumpseg.inference.model import Model
from pumpseg.plural import counted
from pumpseg_train.model.detect import Detector
from pumpseg_train.model.network import MaskRCNN

_OUTPUTS = ("boxes", "scores", "class_ids", "masks")
_ROUNDING = 2e-7  # relative change of each weight, about two units in the last place of float32
_NEAR_TIES = 1.5  # the file may differ from Keras by so much more than Keras from itself
_OWN_FRAMES = 20  # frames on which Keras is compared with itself, at most

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
    """The comparison of both sides on some frames.

    differences: one of each detection of either side. own: the share of Keras' detections that differ from those of
    Keras itself when its weights change by rounding; None if it was not needed.
    """

    frames: int
    differences: tuple[Difference, ...]
    tolerance: Tolerance
    own: float | None = None

    @property
    def agreeing(self) -> list[Difference]:
        return [difference for difference in self.differences if difference.within(self.tolerance)]

    @property
    def differing_share(self) -> float:
        return 1 - len(self.agreeing) / len(self.differences) if self.differences else 1.0

    @property
    def near_ties(self) -> bool:
        """Whether so many detections hang on rounding that those that differ do not speak against the file.

        Not where more than half of them do: then nothing could be told from that.
        """
        allowed = 1 - self.tolerance.share
        return self.own is not None and self.own <= 0.5 and self.differing_share <= _NEAR_TIES * self.own + allowed

    @property
    def sufficient(self) -> bool:
        return bool(self.differences) and (self.differing_share <= 1 - self.tolerance.share or self.near_ties)

    def __str__(self) -> str:
        agreeing, count = self.agreeing, len(self.differences)
        photos = counted(self.frames, "photo")
        if not count:
            return (
                f"nothing was detected on {photos}, so the file could not be compared with Keras: "
                "name photos that show the classes"
            )
        own = "" if self.own is None else f"Keras from itself by {self.own:.0%} when its weights change by rounding"
        if self.sufficient:
            box, score, mask = (max(getattr(d, name) for d in agreeing) for name in ("box", "score", "mask"))
            return (
                f"{len(agreeing)} of {count} detections on {photos} agree with Keras (differing by at most "
                f"{box:.3g} px, score {score:.3g}, mask {mask:.3g})"
                + (f"; the others are near-ties: the file differs by {self.differing_share:.0%}, {own}" if own else "")
            )
        worst = sorted((d for d in self.differences if not d.within(self.tolerance)), key=lambda d: (-d.box, -d.score))
        return (
            f"{count - len(agreeing)} of {count} detections on {photos} differ from Keras by more than "
            f"{self.tolerance} ({1 - self.tolerance.share:.0%} may): {'; '.join(map(str, worst[:2]))}"
            + (f"; the file differs by {self.differing_share:.0%}, {own}" if own else "")
        )


def verify(file: Path, model: MaskRCNN, frames: Iterable[NamedFrame], tolerance: Tolerance) -> Agreement:
    """Compares the detections of both sides as sets, down to the score threshold of `model`.

    Where too few agree, Keras is also compared with itself: near-ties in ill-conditioned weights, such as barely
    trained ones, fall either way with any change of rounding. A wrong conversion differs by more than that.
    """
    opened = Model.open(file, "cpu")
    detector = Detector(model)
    detector.compile(jit_compile=False)
    # Detections this close to the threshold may be above it on one side only.
    min_score = model.profile.score_threshold + tolerance.score
    differences: list[Difference] = []
    samples: list[tuple[NDArray[np.uint8], Mapping[str, Any]]] = []
    count = 0
    for name, frame in frames:
        count += 1
        image, _ = opened.prepare(frame)
        exported, reference = opened.run(image)._asdict(), _detect(detector, image)
        differences += compare(reference, exported, min_score, name) + compare(exported, reference, min_score, name)
        if len(samples) < _OWN_FRAMES:
            samples.append((image.copy(), reference))
    agreement = Agreement(count, tuple(differences), tolerance)
    if agreement.sufficient or not differences:
        return agreement
    return replace(agreement, own=_own_share(detector, samples, min_score, tolerance))


def _detect(detector: Detector, image: NDArray[np.uint8]) -> dict[str, Any]:
    """What Keras detects on one image, with the names of a model file's outputs."""
    detected = detector.predict_on_batch(image)
    return {output: detected[output][0][detected["valid"][0]] for output in _OUTPUTS}


def _own_share(
    detector: Detector,
    samples: Iterable[tuple[NDArray[np.uint8], Mapping[str, Any]]],
    min_score: float,
    tolerance: Tolerance,
) -> float:
    """The share of Keras' detections that differ from its own after a change of its weights by rounding."""
    rng = np.random.default_rng(0)
    weights = detector.get_weights()
    changes = [rng.choice((-_ROUNDING, _ROUNDING), array.shape) for array in weights]
    detector.set_weights([array * (1 + change) for array, change in zip(weights, changes, strict=True)])
    try:
        differences = []
        for image, reference in samples:
            changed = _detect(detector, image)
            differences += compare(reference, changed, min_score) + compare(changed, reference, min_score)
    finally:
        detector.set_weights(weights)
    return float(np.mean([not difference.within(tolerance) for difference in differences]))


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
