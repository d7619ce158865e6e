"""What every command of the project shares: one line for an error, the exit codes, and help that shows defaults."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from pumpseg.errors import PumpsegError

FAILED = 1
"""Some inputs failed, the others are done."""
USAGE_ERROR = 2
INTERRUPTED = 130


class _HelpWithDefaults(argparse.HelpFormatter):
    """Ends the help of an option with its default, unless the text has it already."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        shown = action.default not in (None, False, (), [], argparse.SUPPRESS) and "default" not in text
        return f"{text} (default %(default)s)".lstrip() if shown else text


class CommandParser(argparse.ArgumentParser):
    """Shows defaults in its help; reports a wrong option in one line, as every other error, and exits with 2."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"formatter_class": _HelpWithDefaults, **options})

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def run_command(program: str, action: Callable[[], int | None], if_interrupted: str = "interrupted") -> int:
    """Run a command's action. Returns its exit code (None: 0), 2 after an error, 130 after Ctrl-C, each in one line."""
    if sys.stderr is None:
        # Closed by whoever started this: messages are lost then, but must not end the work.
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    try:
        return action() or 0
    except PumpsegError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print(f"{program}: {if_interrupted}", file=sys.stderr)
        return INTERRUPTED
