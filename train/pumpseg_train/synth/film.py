"""From linear light to a photo: exposure, lens blur, colour balance, sensor noise."""

from dataclasses import dataclass

import cv2
import numpy as np

from pumpseg_train.synth.noise import Array, encode_srgb


@dataclass(frozen=True)
class Film:
    """How a camera records light. balance: BGR gains, float32 (3,); blur: pixels; noise: of full scale."""

    exposure: float
    balance: Array
    blur: float
    noise: float
    vignette: float


def random_film(rng: np.random.Generator) -> Film:
    balance = np.exp(rng.normal(0, 0.06, 3)).astype(np.float32)
    return Film(
        exposure=float(np.exp(rng.normal(0, 0.22))),
        balance=balance,
        blur=float(rng.choice([0.0, rng.uniform(0.3, 0.7), rng.uniform(0.6, 1.3)], p=[0.3, 0.5, 0.2])),
        noise=float(rng.choice([rng.uniform(0.002, 0.012), rng.uniform(0.01, 0.035)], p=[0.75, 0.25])),
        vignette=float(rng.uniform(0, 0.35)),
    )


def metered(light: Array) -> float:
    """Exposure that puts the geometric mean of linear light (h, w, 3) at a middle tone, within four stops."""
    mean = float(np.exp(np.log(light[::4, ::4].mean(axis=-1) + 1e-3).mean()))
    return float(np.clip(0.26 / mean, 0.5, 8))


def develop(light: Array, film: Film, exposure: float, rng: np.random.Generator) -> Array:
    """Linear BGR light (h, w, 3) to uint8 BGR (h, w, 3); `exposure` multiplies the film's own."""
    height, width = light.shape[:2]
    glare = cv2.GaussianBlur(np.maximum(light * exposure - 1.5, 0), (0, 0), max(width / 60, 1))
    exposed = light * np.float32(exposure * film.exposure) * film.balance + 0.5 * glare
    if film.blur > 0:
        exposed = cv2.GaussianBlur(exposed, (0, 0), film.blur)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    exposed = exposed * (1 - film.vignette * 0.5 * (x * x + y * y))[..., None]
    recorded = 1 - np.exp(-exposed)
    # Photon noise grows with the root of the signal; a floor models the sensor's own.
    grain = rng.standard_normal(recorded.shape, np.float32)
    recorded += np.float32(film.noise) * grain * np.sqrt(recorded + 0.05)
    return encode_srgb(recorded)
