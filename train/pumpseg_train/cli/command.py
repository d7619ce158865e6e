"""What the commands share besides `pumpseg.command`: outputs looked at early, and what is not installed."""

import argparse
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

from pumpseg import command
from pumpseg.errors import PumpsegError
from pumpseg.partial_file import PartialFile, check_names

# What a subcommand adds its parser to; the class has no other name.
Commands: TypeAlias = "argparse._SubParsersAction[command.CommandParser]"


def run_command(name: str, action: Callable[[], int | None], if_interrupted: str = "interrupted") -> int:
    """Runs a command's action; returns its exit code (None: 0), 2 on bad input, 130 on Ctrl-C."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow greets at length otherwise

    def complain_of_missing_extra() -> int | None:
        try:
            return action()
        except ModuleNotFoundError as error:
            extra = "export" if error.name in ("onnx", "tf2onnx") else "train"
            raise PumpsegError(f'{error}: pip install "pumpseg[{extra}]"') from None

    return command.run_command(name, complain_of_missing_extra, if_interrupted)


def check_output(written: Path, read: Iterable[Path]) -> None:
    """Raises SinkError, before any work is done, where a file is an input or cannot be written."""
    check_names([written], read)
    PartialFile(written).discard()
