"""What the commands share besides `pumpseg.command`: the extra that is missing."""

import argparse
import os
from collections.abc import Callable
from typing import TypeAlias

from pumpseg import command
from pumpseg.errors import PumpsegError

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
