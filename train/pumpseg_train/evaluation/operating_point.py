"""Where to put the threshold: recall against false alarms, and what a score is worth."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pumpseg_train.evaluation.report import PhotoMatches

ALARM_RATES = (1.0, 3.0, 10.0)  # per 100 negative photos
SMALLEST = 32.0  # pixels, the root of an instance's area: recall counts from here


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and what it does.

    recall: the share of the instances of SMALLEST and more that are found at mask IoU 0.5. precision: the share of the
    detections that are right, nan without any. alarms: negative photos with a detection, per 100; nan without photos.
    """

    threshold: float
    recall: float
    precision: float
    alarms: float


@dataclass(frozen=True)
class ScoredDetections:
    """What thresholds are chosen by.

    scores (D,) of the detections on photos with instances, without those in crowd regions; right bool (D,): which hit
    an instance; counted bool (D,): which hit one of SMALLEST and more; instances: how many of these there are;
    highest (P,): the highest score on each negative photo, 0 without a detection.
    """

    scores: NDArray[np.float64]
    right: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    instances: int
    highest: NDArray[np.float64]

    def at(self, threshold: float) -> OperatingPoint:
        kept = self.scores >= threshold
        return OperatingPoint(
            threshold,
            float((kept & self.counted).sum() / self.instances) if self.instances else float("nan"),
            float(self.right[kept].mean()) if kept.any() else float("nan"),
            100 * float((self.highest >= threshold).mean()) if self.highest.size else float("nan"),
        )

    def for_alarms(self, rate: float) -> OperatingPoint:
        """The lowest threshold, to two decimals, with at most `rate` alarms per 100 negative photos."""
        steps = np.arange(1, 101) / 100
        alarms = 100 * (self.highest[None] >= steps[:, None]).mean(axis=1) if self.highest.size else np.zeros(100)
        allowed = np.flatnonzero(alarms <= rate)
        return self.at(float(steps[allowed[0]]) if allowed.size else 1.0)

    def curve(self, steps: int = 100) -> list[OperatingPoint]:
        """The operating points from threshold 0.01 to 1."""
        return [self.at(number / steps) for number in range(1, steps + 1)]

    def reliability(self, bins: int = 10) -> list[tuple[float, float, int]]:
        """Mean score, share that is right and count of the detections in each of `bins` equal ranges of scores."""
        rows = []
        for number in range(bins):
            chosen = (self.scores >= number / bins) & (self.scores < (number + 1) / bins + (number == bins - 1))
            if count := int(chosen.sum()):
                rows.append((float(self.scores[chosen].mean()), float(self.right[chosen].mean()), count))
        return rows


def score_detections(photos: "Iterable[PhotoMatches]", highest: Sequence[float]) -> ScoredDetections:
    """From the matches of `report.match_photos` at threshold 0, and the best score on each negative photo."""
    scores: list[float] = []
    right: list[bool] = []
    counted: list[bool] = []
    instances = 0
    for matches in photos:
        large = matches.areas >= SMALLEST**2
        instances += int(large.sum())
        for number in np.flatnonzero(~matches.ignored):
            found = bool(matches.found[number])
            scores.append(float(matches.detections[number]["score"]))
            right.append(found)
            counted.append(found and bool(large[matches.instance[number]]))
    return ScoredDetections(
        np.array(scores, float), np.array(right, bool), np.array(counted, bool), instances, np.array(highest, float)
    )
