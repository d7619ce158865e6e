"""Checks of what the public functions are given, made before any work begins."""

from __future__ import annotations

import numpy as np

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
