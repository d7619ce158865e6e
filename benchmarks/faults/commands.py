"""Runs the commands of the project under faults, and judges how they ended."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_SECONDS = 60.0
"""A command that takes longer hangs; run.py --max-seconds changes it."""

MODULES = {
    "pumpseg-video": "pumpseg.cli.video",
    "pumpseg-data": "pumpseg_train.cli.data",
    "pumpseg-train": "pumpseg_train.cli.train",
    "pumpseg-eval": "pumpseg_train.cli.evaluate",
    "pumpseg-export": "pumpseg_export.cli",
}
HIDDEN = (".part-", ".live-")

Words = Sequence[str | Path]


@dataclass(frozen=True)
class Ended:
    """How a command ended. code: its exit code, -N after signal N. hung: it had to be killed."""

    code: int
    seconds: float
    errors: str
    hung: bool = False

    def problems(self, allowed: Iterable[int]) -> list[str]:
        """What a user must never see. allowed: exit codes that the docs name for this."""
        if self.hung:
            return [f"still running after {self.seconds:.0f} s"]
        found = []
        if "Traceback (most recent call last)" in self.errors:
            found.append("a traceback")
        if self.code not in allowed:
            last = self.errors.strip().splitlines()[-1:] or [""]
            found.append(f"exit code {self.code} ({last[0][:200]})")
        lines = [line for line in self.errors.splitlines() if ": error: " in line]
        if self.code == 2 and len(lines) != 1:
            found.append(f"{len(lines)} lines of error instead of one")
        return found


@dataclass
class Case:
    """A fault and what came of it. what: its row in the table. folder: where the command ran."""

    what: str
    how: str
    ended: Ended
    problems: list[str]
    folder: Path


def line(program: str, *words: str | Path) -> list[str]:
    """The command as its entry point runs it."""
    start = "import sys; from pumpseg.cli.main import pumpseg; sys.exit(pumpseg())"
    return [sys.executable, "-c", start, program.removeprefix("pumpseg-"), *map(str, words)]


def errors_of(folder: Path) -> Path:
    """Where standard error of a command in `folder` goes: next to it, since its disk may be full."""
    return folder.with_name(f"{folder.name}.stderr")


def start(command: Sequence[str], folder: Path, errors: Path) -> subprocess.Popen:
    """The command, in `folder` and a process group of its own; standard error goes to the file `errors`."""
    with errors.open("wb") as file:
        return subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=file,
            start_new_session=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )


def run(
    command: Sequence[str],
    folder: Path,
    *,
    slow: float = 1.0,
    disturb: Callable[[subprocess.Popen], None] | None = None,
) -> Ended:
    """A command to its end. slow: how many times MAX_SECONDS it may take. disturb: called once it runs."""
    errors = errors_of(folder)
    began = time.monotonic()
    process = start(command, folder, errors)
    hung = False
    try:
        if disturb is not None:
            disturb(process)
        process.wait(slow * MAX_SECONDS)
    except subprocess.TimeoutExpired:
        hung = True
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
    return Ended(code, time.monotonic() - began, errors.read_text(encoding="utf-8", errors="replace"), hung)


class WarmCommands:
    """Runs commands in forks of this process, which has imported them: a case takes milliseconds instead of seconds.

    Only for commands without TensorFlow, whose threads no fork survives.
    """

    def __init__(self, *programs: str) -> None:
        self._mains = {program: importlib.import_module(MODULES[program]).main for program in programs}

    def run(self, program: str, words: Words, folder: Path) -> Ended:
        errors = errors_of(folder)
        sys.stdout.flush()
        began = time.monotonic()
        child = os.fork()
        if not child:
            os._exit(self._in_child(program, list(map(str, words)), folder, errors))
        status, hung = 0, False
        while not (waited := os.waitpid(child, os.WNOHANG))[0]:
            if time.monotonic() - began > MAX_SECONDS:
                hung = True
                os.kill(child, signal.SIGKILL)
                waited = os.waitpid(child, 0)
                break
            time.sleep(0.005)
        status = os.waitstatus_to_exitcode(waited[1])
        return Ended(status, time.monotonic() - began, errors.read_text(encoding="utf-8", errors="replace"), hung)

    def _in_child(self, program: str, words: list[str], folder: Path, errors: Path) -> int:
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.chdir(folder)
        try:
            code = self._mains[program](words)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            traceback.print_exc()
            code = 70
        sys.stdout.flush()
        sys.stderr.flush()
        return code


def left_hidden(folder: Path) -> list[str]:
    """Partial files and folders below `folder`."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*") if path.name.startswith(HIDDEN))


@contextlib.contextmanager
def emptied(folder: Path) -> Iterator[Path]:
    """A new folder, removed afterwards."""
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
