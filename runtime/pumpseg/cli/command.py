"""What every command of the project shares: one line for an error, the exit codes, and help that shows defaults."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from pumpseg.cli.interrupt import INTERRUPTED as INTERRUPTED
from pumpseg.cli.streams import best_effort_streams
from pumpseg.errors import PumpsegError, WriteError
from pumpseg.redaction import redacted_text

FAILED = 1
"""Some inputs or outputs failed, the others are done."""
USAGE_ERROR = 2


class _HelpWithDefaults(argparse.HelpFormatter):
    """Ends the help of an option with its default, unless the text has it already."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        shown = action.default not in (None, False, (), [], argparse.SUPPRESS) and "default" not in text
        return f"{text} (default %(default)s)".lstrip() if shown else text


class _Version(argparse.Action):
    """Prints the version, which is looked up only then."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "nargs": 0, "default": argparse.SUPPRESS, "help": "print the version"})

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        import pumpseg

        print(f"pumpseg {pumpseg.__version__}")
        parser.exit()


class CommandParser(argparse.ArgumentParser):
    """Shows defaults in its help; reports a wrong option in one line, as every other error, and exits with 2.

    examples: command lines that the help begins with. version: whether there is --version.
    """

    def __init__(self, *args: Any, examples: Sequence[str] = (), version: bool = False, **options: Any) -> None:
        super().__init__(*args, **{"formatter_class": _HelpWithDefaults, **options})
        self.examples = examples
        if version:
            self.add_argument("--version", action=_Version)

    def format_help(self) -> str:
        shown = "".join(f"  {example}\n" for example in self.examples)
        return (f"examples:\n{shown}\n" if shown else "") + super().format_help()

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def run_command(program: str, action: Callable[[], int | None]) -> int:
    """Run a command's action, which includes reading its arguments.

    Returns its exit code (None: 0), 1 if an output failed while it was written, 2 after another error, 130 after
    Ctrl-C, each reported in one line. Failed writes to standard output and standard error do not reach the action.
    """
    with best_effort_streams() as stdout:
        try:
            code = _exit_code(program, action)
        except SystemExit as stop:  # of argparse: --help, --version or a wrong option
            if stdout.failure() is None:
                raise
            code = stop.code if isinstance(stop.code, int) else 0
        failure = stdout.failure()
        if failure is not None:
            print(f"{program}: error: cannot write to standard output: {failure}", file=sys.stderr)
            code = code or FAILED
    return code


@contextlib.contextmanager
def when_interrupted(text: str) -> Iterator[None]:
    """Say `text` after Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(text) from None


def _exit_code(program: str, action: Callable[[], int | None]) -> int:
    try:
        return action() or 0
    except PumpsegError as error:
        print(f"{program}: error: {redacted_text(str(error))}", file=sys.stderr)
        return FAILED if isinstance(error, WriteError) else USAGE_ERROR
    except KeyboardInterrupt as interrupt:
        print(f"{program}: {str(interrupt) or 'interrupted'}", file=sys.stderr)
        return INTERRUPTED
