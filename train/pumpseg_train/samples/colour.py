"""Random colour, light and surface of pictures and objects; uint8 RGB in and out."""

import cv2
import numpy as np
from PIL import Image, ImageEnhance


def log_uniform(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    """A number between the limits whose logarithm is uniform."""
    return float(np.exp(rng.uniform(*np.log(limits))))


def jitter_colour(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random light, contrast, saturation, white balance, and now and then blur, noise or grey; RGB in and out."""
    picture = Image.fromarray(image)
    for enhance, low, high in (
        (ImageEnhance.Brightness, 0.6, 1.45),
        (ImageEnhance.Contrast, 0.65, 1.4),
        (ImageEnhance.Color, 0.55, 1.5),
    ):
        if rng.random() < 0.7:
            picture = enhance(picture).enhance(log_uniform(rng, (low, high)))
    image = np.asarray(picture)
    if rng.random() < 0.4:
        gains = rng.uniform(0.88, 1.12, 3)
        table = np.clip(np.arange(256)[:, None] * gains, 0, 255).astype(np.uint8)
        image = cv2.LUT(image, table[None])
    if rng.random() < 0.03:
        image = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    if rng.random() < 0.15:  # as from a poor camera or a thumbnail
        height, width = image.shape[:2]
        share = rng.uniform(0.35, 0.8)
        small = cv2.resize(image, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
        image = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    chance = rng.random()
    if chance < 0.12:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.4))
    elif chance < 0.22:
        noise = rng.normal(0, rng.uniform(2, 10), image.shape)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    elif chance < 0.37:
        coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 80))])[1]
        image = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))
    return image


def jitter_light(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Hue, saturation, light and colour cast of one pasted object, RGB in and out; some become pale varieties."""
    steps = int(rng.normal(0, 5))
    strength = log_uniform(rng, (0.15, 0.6) if rng.random() < 0.12 else (0.75, 1.3))
    image = _turn_hue(image, steps, strength)
    gains = rng.uniform(0.75, 1.25) * rng.uniform(0.94, 1.06, 3)
    table = np.clip(np.arange(256)[:, None] * gains, 0, 255).astype(np.uint8)
    return cv2.LUT(image, table[None])


def vary(image: np.ndarray, alpha: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The object as another variety: its hue turned by up to 25 degrees, its surface without ribs, or both.

    image: uint8 RGB (h, w, 3); alpha: uint8 (h, w), the object in it. What surrounds it does not bleed in.
    """
    kind = rng.integers(3)
    if kind != 0:
        image = _turn_hue(image, int(rng.integers(-18, 19)))
    if kind != 1:
        sigma = log_uniform(rng, (0.02, 0.08)) * max(alpha.shape)
        weight = alpha.astype(np.float32)[..., None] / 255 + 1e-3
        sums = cv2.GaussianBlur(np.concatenate([image * weight, weight], axis=2), (0, 0), sigma)
        strength = rng.uniform(0.6, 1.0)
        image = (image + strength * (sums[..., :3] / sums[..., 3:] - image)).astype(np.uint8)
    return image


def _turn_hue(image: np.ndarray, steps: int, strength: float = 1.0) -> np.ndarray:
    """RGB with its hue turned by `steps`, of which 256 are the full circle, and its saturation times `strength`."""
    hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL))
    values = np.arange(256)
    turned = ((values + steps) % 256).astype(np.uint8)
    stronger = np.clip(values * strength, 0, 255).astype(np.uint8)
    turned_image = cv2.merge([cv2.LUT(hue, turned), cv2.LUT(saturation, stronger), value])
    return cv2.cvtColor(turned_image, cv2.COLOR_HSV2RGB_FULL)
