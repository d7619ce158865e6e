"""What every command of the project shares: one line for an error, and the exit codes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from pumpseg.errors import PumpsegError

FAILED = 1
"""Some inputs failed, the others are done."""
USAGE_ERROR = 2
INTERRUPTED = 130


def run_command(program: str, action: Callable[[], int | None], if_interrupted: str = "interrupted") -> int:
    """Run a command's action. Returns its exit code (None: 0), 2 after an error told in one line, 130 on Ctrl-C."""
    try:
        return action() or 0
    except PumpsegError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print(f"{program}: {if_interrupted}", file=sys.stderr)
        return INTERRUPTED


def parse_size(option: str, text: str) -> tuple[int, int]:
    """(width, height) of a size in pixels such as 640x480. Raises PumpsegError naming the option."""
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise PumpsegError(f"{option} {text}: expected WIDTHxHEIGHT in pixels, such as 640x480")
    return int(width), int(height)


def parse_count(text: str) -> int:
    """A whole number from 1, as an argparse type."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value
