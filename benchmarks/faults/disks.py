"""Disks that fill up while a command writes, and have room again for its rerun."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from commands import Case, Ended, WarmCommands, emptied, left_hidden
from commands import run as run_command
from jobs import JOBS, Job, make_inputs, undisturbed

_ROOM = "size=200m"


def run(count: int, rng: random.Random, work: Path, warm: WarmCommands) -> Iterator[Case]:
    """`count` full disks, all commands in turn. Each has room for 2% to 98% of what the command writes."""
    inputs = make_inputs(work / "inputs")
    references: dict[str, tuple[dict[str, str], int]] = {}
    for index in range(count):
        job = JOBS[index % len(JOBS)]
        if job.name not in references:
            folder = work / job.name.replace(" ", "-")
            expected, _ = undisturbed(job, inputs, folder)
            references[job.name] = expected, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        expected, size = references[job.name]
        with emptied(work / f"case-{index}") as folder:
            yield _case(job, inputs, folder, expected, max(4, round(rng.uniform(0.02, 0.98) * size / 1024)))


def _case(job: Job, inputs: Path, folder: Path, expected: dict[str, str], kib: int) -> Case:
    with _small_disk(folder, kib) as mounted:
        limited = job.command(inputs) if mounted else ["prlimit", f"--fsize={1024 * kib}", *job.command(inputs)]
        first: Ended = run_command(limited, folder, slow=job.slow)
        problems = first.problems({0, 1, 2})
        if job.name != "pumpseg-train":
            problems += job.wrong(folder, expected)
        problems += [f"{name} is left" for name in left_hidden(folder)]
        if mounted:
            subprocess.run(["mount", "-o", f"remount,{_ROOM}", str(folder)], check=True)
        if not (job.once and job.results(folder) == expected):
            second = job.run(inputs, folder)
            problems += [f"after the rerun: {problem}" for problem in second.problems({0})]
            if job.results(folder) != expected:
                problems.append("after the rerun the results differ from those of an undisturbed run")
        how = f"{kib} KiB {'of disk' if mounted else 'a file'}"
        return Case(
            job.name, how, first, problems + [f"after the rerun {name}" for name in left_hidden(folder)], folder
        )


@contextlib.contextmanager
def _small_disk(folder: Path, kib: int) -> Iterator[bool]:
    """A file system of some KiB at `folder`; yields whether it could be mounted."""
    mounted = False
    if shutil.which("mount"):
        command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)]
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)
