"""Types of command-line arguments, for all commands: each checks a text and names what it should have been.

    parser.add_argument("--frames", type=count, default=150, metavar="N", help="frames to measure")
    parser.add_argument("--threads", type=whole(1, MAX_THREADS), metavar="N", help="of one inference")

A wrong text ends the command in one line: "argument --frames: must be a whole number of at least 1, got 'x'".
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def whole(minimum: int, maximum: int | None = None) -> Callable[[str], int]:
    """A whole number from `minimum` to `maximum`."""
    wanted = "a whole number " + (f"of at least {minimum}" if maximum is None else f"from {minimum} to {maximum}")
    return _type(int, wanted, lambda value: minimum <= value and (maximum is None or value <= maximum))


def number(wanted: str, allowed: Callable[[float], bool]) -> Callable[[str], float]:
    """A number for which `allowed` is true. wanted: the same in words, such as "a number above 0"."""
    return _type(float, wanted, allowed)


def comma_separated(parse: Callable[[str], T]) -> Callable[[str], list[T]]:
    """Values with commas between them, each read by `parse`."""
    return lambda text: [parse(part) for part in text.split(",")]


def size(text: str) -> tuple[int, int]:
    """(width, height) in pixels, written 640x480."""
    width, cross, height = text.lower().partition("x")
    if not (cross and _is_side(width) and _is_side(height)):
        raise argparse.ArgumentTypeError(f"must be WIDTHxHEIGHT in pixels, such as 640x480, got {text!r}")
    return int(width), int(height)


def size_or_side(text: str) -> tuple[int, int]:
    """(width, height) in pixels, written 640x480, or 384 for a square."""
    return (int(text), int(text)) if _is_side(text) else size(text)


def path(text: str) -> Path:
    """A path. An empty text, which `Path` takes for the current folder, is refused."""
    if not text:
        raise argparse.ArgumentTypeError("must name a file or folder, got an empty text")
    return Path(text)


def _is_side(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) > 0


def _type(convert: Callable[[str], T], wanted: str, allowed: Callable[[T], bool]) -> Callable[[str], T]:
    def parse(text: str) -> T:
        try:
            value = convert(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be {wanted}, got {text!r}") from None
        if not allowed(value):
            raise argparse.ArgumentTypeError(f"must be {wanted}, got {text}")
        return value

    return parse


count = whole(1)
seed = whole(0)
share = number("a number from 0 to 1", lambda value: 0 <= value <= 1)
positive = number("a number above 0", lambda value: 0 < value < math.inf)
seconds = number("a number of seconds, at least 0", lambda value: value >= 0)
