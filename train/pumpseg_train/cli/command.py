"""What the commands share besides `pumpseg.command`: missing extras, a counter for long work, whole json files."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from pumpseg import command
from pumpseg.errors import PumpsegError
from pumpseg.partial_file import PartialFile

# What a subcommand adds its parser to; the class has no other name.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


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


def counter(what: str) -> Callable[[int, int], None]:
    """A counter on stderr: one line that is rewritten on a terminal, a line every tenth elsewhere."""
    terminal = sys.stderr.isatty()

    def show(done: int, total: int) -> None:
        if terminal:
            print(f"\r{done}/{total} {what}", end="\n" if done == total else "", file=sys.stderr, flush=True)
        elif done * 10 // total > (done - 1) * 10 // total:
            print(f"{done}/{total} {what}", file=sys.stderr, flush=True)

    return show


def write_json(path: Path, content: Any) -> None:
    """Writes a json file that appears when it is complete. Raises SinkError."""
    file = PartialFile(path)
    file.path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    file.complete()
