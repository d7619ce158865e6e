"""Layered noise and the colour conversions that every renderer module shares."""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def layered_noise(
    rng: np.random.Generator,
    shape: tuple[int, int],
    cells: tuple[float, float],
    octaves: int = 4,
    wrap_x: bool = False,
    gain: float = 0.5,
) -> Array:
    """Sum of `octaves` smooth random grids, each twice as fine and `gain` times as strong as the last.

    shape: (height, width); cells: (rows, columns) of the coarsest grid; wrap_x makes the left and right
    edges meet. Returns float32 (height, width), mean about 0 and deviation about 1.
    """
    height, width = shape
    total = np.zeros(shape, np.float32)
    power = 0.0
    for octave in range(octaves):
        rows = min(height, max(2, round(cells[0] * 2**octave)))
        columns = min(width, max(2, round(cells[1] * 2**octave)))
        grid = rng.standard_normal((rows, columns), np.float32)
        if wrap_x:
            pad = 2
            grid = np.concatenate([grid[:, -pad:], grid, grid[:, :pad]], axis=1)
            scale = width / columns
            # Output pixel j sits at grid column (j + 0.5) / scale - 0.5, counted from the unpadded first one.
            transform = np.array(
                [[1 / scale, 0, pad + 0.5 / scale - 0.5], [0, rows / height, 0.5 * rows / height - 0.5]],
                np.float64,
            )
            layer = cv2.warpAffine(
                grid,
                transform,
                (width, height),
                flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REPLICATE,
            )
        else:
            layer = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        amplitude = gain**octave
        total += amplitude * layer
        power += amplitude**2
    return total / np.float32(0.75 * np.sqrt(power))


def smoothstep(low: float, high: float, value: Array) -> Array:
    """0 below low, 1 above high, the cubic 3t^2 - 2t^3 between (also for low > high, mirrored)."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def linear(red: float, green: float, blue: float) -> Array:
    """sRGB 0-255 to linear light, float32 (3,) in **BGR** order."""
    srgb = np.array([blue, green, red], np.float32) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).astype(np.float32)


def encode_srgb(light: Array) -> Array:
    """Linear light, float (..., 3) to sRGB uint8, clipped to 0-1 first; the channel order is kept."""
    # 0-1 in 4096 steps of a square-root scale: fine in the shadows, and a table is 10x faster than pow().
    index = np.sqrt(np.clip(light, 0, 1)) * 4095 + 0.5
    return _SRGB_OF_ROOT[index.astype(np.int32)]


def decode_srgb(pixels: Array) -> Array:
    """sRGB uint8 (...) to linear light, float32; the channel order is kept."""
    return _LINEAR[pixels]


def _srgb_of_root() -> Array:
    value = (np.arange(4096) / 4095) ** 2
    srgb = np.where(value <= 0.0031308, value * 12.92, 1.055 * value ** (1 / 2.4) - 0.055)
    return np.round(srgb * 255).astype(np.uint8)


_LINEAR = np.array([linear(value, 0, 0)[2] for value in range(256)], np.float32)
_SRGB_OF_ROOT = _srgb_of_root()
