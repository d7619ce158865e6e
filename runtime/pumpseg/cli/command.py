"""What every command of the project shares: one line for an error, and the exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from pumpseg.errors import PumpsegError

FAILED = 1
"""Some inputs failed, the others are done."""
USAGE_ERROR = 2
INTERRUPTED = 130


class CommandParser(argparse.ArgumentParser):
    """Tells a wrong option in one line, as every other error is told, and exits with 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def run_command(program: str, action: Callable[[], int | None], if_interrupted: str = "interrupted") -> int:
    """Run a command's action. Returns its exit code (None: 0), 2 after an error told in one line, 130 on Ctrl-C."""
    if sys.stderr is None:
        # Closed by whoever started this; what is told there is of no use, then, but must not end the work.
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
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
        raise PumpsegError(f"{option} {text}: expected WIDTHxHEIGHT in pixels, such as 640x480".lstrip())
    return int(width), int(height)


def parse_count(text: str, most: int | None = None) -> int:
    """A whole number from 1 to `most`, as an argparse type."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    if most is not None and value > most:
        raise argparse.ArgumentTypeError(f"{text} is more than {most}")
    return value
