"""What the commands of training share: outputs are checked early, missing packages are named."""

import argparse
import importlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from pumpseg.atomic_file import check_names, check_writable
from pumpseg.cli import command
from pumpseg.errors import PumpsegError
from pumpseg_train.dataset.input_file import read_text
from pumpseg_train.memory import keep_freed_memory

# What a subcommand adds its parser to; the class has no other name.
Commands: TypeAlias = "argparse._SubParsersAction[command.CommandParser]"

_OTHER_BACKENDS = ("jax", "torch")  # no extra installs them
_UNKNOWN_BACKEND = "Unable to import backend"  # how Keras begins its message about an unknown KERAS_BACKEND
_CHOICE = "set KERAS_BACKEND to tensorflow"


def run_command(name: str, action: Callable[[], int | None]) -> int:
    """`pumpseg.cli.command.run_command` where packages that no extra has brought in may be missing."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow greets at length otherwise
    keep_freed_memory()

    def name_what_is_missing() -> int | None:
        try:
            return action()
        except ModuleNotFoundError as error:
            if error.name == "cv2":
                importlib.import_module("pumpseg.opencv")  # raises with the pip command
            if error.name in _OTHER_BACKENDS:
                raise PumpsegError(f"{error}, which Keras is set to: {_CHOICE}, or pip install {error.name}") from None
            extra = "export" if error.name in ("onnx", "tf2onnx") else "train"
            raise PumpsegError(f'{error}: pip install "pumpseg[{extra}]"') from None
        except ValueError as error:
            if not str(error).startswith(_UNKNOWN_BACKEND):
                raise
            raise PumpsegError(f"{error}: {_CHOICE}, jax or torch") from None

    return command.run_command(name, name_what_is_missing)


def class_names(values: Sequence[str]) -> list[str]:
    """The values of --classes: names, or those that a text file lists, one a line. Raises PumpsegError."""
    if len(values) != 1 or not values[0].endswith(".txt"):
        return list(values)
    try:
        lines = read_text(Path(values[0])).splitlines()
    except PumpsegError as error:
        raise PumpsegError(f"cannot read the class names in {values[0]}: {error}") from None
    return [line.strip() for line in lines if line.strip()]


def check_output(written: Path, read: Iterable[Path]) -> None:
    """Raises SinkError, before any work is done, where a file is an input or cannot be written."""
    check_names([written], read)
    check_writable(written)
