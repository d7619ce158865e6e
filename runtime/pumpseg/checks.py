"""Checks of what the public functions are given, made before any work begins."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pumpseg.errors import OptionError


def check_count(name: str, value: object, maximum: int | None = None) -> None:
    """Raise OptionError unless the value is a whole number from 1 to `maximum`."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise OptionError(f"{name} must be a whole number, got {value!r}")
    if value < 1:
        raise OptionError(f"{name} must be at least 1, got {value}")
    if maximum is not None and value > maximum:
        raise OptionError(f"{name} must be at most {maximum}, got {value}")


def check_share(name: str, value: object) -> None:
    """Raise OptionError unless the value is a number from 0 to 1."""
    if not isinstance(value, (int, float, np.floating, np.integer)) or isinstance(value, bool) or not 0 <= value <= 1:
        raise OptionError(f"{name} must be from 0 to 1, got {value!r}")


def check_frame(frame: object) -> NDArray[np.uint8]:
    """The frame itself. Raises ValueError, saying what to do, unless it is uint8 BGR (H, W, 3) and not empty."""
    if not isinstance(frame, np.ndarray):
        reason = ": was the image read at all?" if frame is None else ""
        raise ValueError(f"a frame must be a NumPy array, got {type(frame).__name__}{reason}")
    if frame.dtype != np.uint8:
        raise ValueError(f"a frame must be uint8, got {frame.dtype}: scale it to 0..255 and use astype(np.uint8)")
    if frame.ndim == 2 or (frame.ndim == 3 and frame.shape[2] == 1):
        raise ValueError(f"a frame must be BGR, got grey {frame.shape}: cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR)")
    if frame.ndim == 3 and frame.shape[2] == 4:
        raise ValueError(f"a frame must be BGR, got BGRA {frame.shape}: cv2.cvtColor(frame, cv2.COLOR_BGRA2BGR)")
    if frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"a frame must have the shape (H, W, 3), got {frame.shape}")
    if frame.size == 0:
        raise ValueError(f"a frame must not be empty, got {frame.shape}")
    return frame
