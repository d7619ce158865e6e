"""Statistics of repeated measurements, with their uncertainty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

MIN_FOR_FPS = 30
MIN_FOR_P99 = 100
CONFIDENCE = 0.95
_RESAMPLES = 2000
_PORTION = 4_000_000


@dataclass(frozen=True)
class Latency:
    """Milliseconds a frame."""

    p50: float
    p50_interval: Annotated[tuple[float, float], "95% confidence interval of the median"]
    p90: float
    p99: Annotated[float | None, "null from fewer than 100 frames"]
    max: float


def latency_of(rounds: Sequence[Sequence[float]]) -> Latency:
    """Latency of the milliseconds measured in every round. Raises ValueError without any."""
    samples = _pooled(rounds)
    if not samples.size:
        raise ValueError("there is no latency without a measurement")
    p50, p90, p99 = np.percentile(samples, [50, 90, 99])
    return Latency(
        float(p50),
        median_interval(rounds),
        float(p90),
        float(p99) if len(samples) >= MIN_FOR_P99 else None,
        float(samples.max()),
    )


def median_interval(rounds: Sequence[Sequence[float]], seed: int = 0) -> tuple[float, float]:
    """Confidence interval of the median of all samples, by a percentile bootstrap; see `_drawn_medians`.

    Raises ValueError without any sample.
    """
    low, high = _middle(_drawn_medians(rounds, seed))
    median = float(np.median(_pooled(rounds)))
    # With rounds of unequal medians the whole interval may fall slightly to one side.
    return min(low, median), max(high, median)


def ratio_interval(
    rounds: Sequence[Sequence[float]], base: Sequence[Sequence[float]], seed: int = 0
) -> tuple[float, float, float]:
    """The median of `rounds` divided by that of `base`, measured at another time, and its confidence interval.

    Raises ValueError without any sample of either.
    """
    ratios = _drawn_medians(rounds, seed) / _drawn_medians(base, seed + 1)
    ratio = float(np.median(_pooled(rounds)) / np.median(_pooled(base)))
    low, high = _middle(ratios)
    return ratio, min(low, ratio), max(high, ratio)


def _middle(values: NDArray[np.float64]) -> tuple[float, float]:
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def _drawn_medians(rounds: Sequence[Sequence[float]], seed: int) -> NDArray[np.float64]:
    """Medians of samples drawn anew.

    Whole rounds are drawn with replacement, since a disturbance of the machine affects the frames of a round
    together (cluster bootstrap; Davison and Hinkley 1997, section 3.8), then samples within each of them. A
    single round is resampled sample by sample. Raises ValueError without any sample.
    """
    filled = [np.asarray(samples, np.float64) for samples in rounds if len(samples)]
    if not filled:
        raise ValueError("there is no median without a measurement")
    lengths = np.array([len(samples) for samples in filled])
    starts = np.cumsum(lengths) - lengths
    pooled, width = np.concatenate(filled), lengths.max()
    rng = np.random.default_rng(seed)
    medians = []
    # In portions, to bound memory.
    for portion in np.array_split(np.arange(_RESAMPLES), math.ceil(_RESAMPLES * len(filled) * width / _PORTION)):
        drawn = rng.integers(len(filled), size=(len(portion), len(filled)))
        within = rng.integers(lengths[drawn][..., None], size=(*drawn.shape, width))
        # Every round gives as many samples as it has; the padding sorts to the end.
        values = np.where(
            np.arange(width) < lengths[drawn][..., None], pooled[starts[drawn][..., None] + within], np.inf
        )
        values = np.sort(values.reshape(len(portion), -1), axis=1)
        counts = lengths[drawn].sum(axis=1)
        row = np.arange(len(portion))
        medians.append((values[row, (counts - 1) // 2] + values[row, counts // 2]) / 2)
    return np.concatenate(medians)


def frames_per_second(frames: int, seconds: float) -> float | None:
    """None from fewer than 30 frames, too few for a stable figure."""
    return frames / seconds if frames >= MIN_FOR_FPS and seconds > 0 else None


def _pooled(rounds: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    return np.concatenate([np.asarray(samples, np.float64) for samples in rounds]) if len(rounds) else np.zeros(0)
