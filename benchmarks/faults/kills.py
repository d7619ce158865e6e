"""SIGKILL, and SIGSTOP with SIGCONT, at random moments of every command."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
from commands import Case, Ended, WarmCommands, emptied, left_hidden, line
from commands import run as run_command
from jobs import CPU, JOBS, Job, make_inputs, undisturbed
from urls import Server

_LIVE_SHARE = 0.13
_LIVE_SECONDS = 6.0
_RECORDED_SECONDS = 3.0  # of a recording that must be there after a kill: a fragment takes about a second
_STOPPED_SECONDS = 3.0
_LEFT_SECONDS = 10.0  # in which the workers of a killed command end
Disturb = Callable[[subprocess.Popen], None]


def run(count: int, rng: random.Random, work: Path, warm: WarmCommands) -> Iterator[Case]:
    """`count` kills over all commands, each followed by a run that is not disturbed."""
    lives = round(_LIVE_SHARE * count)
    inputs = make_inputs(work / "inputs")
    for job, number in _shares(count - lives):
        expected, seconds = undisturbed(job, inputs, work / f"{job.program}-{job.name[-5:]}")
        for index in range(number):
            with emptied(work / f"case-{index}") as folder:
                yield _killed(job, inputs, folder, expected, rng.uniform(0.02, 1.0) * seconds)
    server = Server(work)
    try:
        for index in range(lives):
            with emptied(work / f"live-{index}") as folder:
                yield _killed_live(server, folder, rng.uniform(0.3, 1.0) * _LIVE_SECONDS)
    finally:
        server.close()


def run_stops(count: int, rng: random.Random, work: Path, warm: WarmCommands) -> Iterator[Case]:
    """`count` commands that are stopped for a while: files, batches, and live recordings."""
    inputs = make_inputs(work / "inputs")
    server = Server(work)
    references = [(job, *undisturbed(job, inputs, work / job.name.replace(" ", "-"))) for job in JOBS[:2]]
    try:
        for index in range(count):
            with emptied(work / f"case-{index}") as folder:
                if index % 3 == 2:
                    yield _stopped_live(server, folder, rng.uniform(2, 4))
                    continue
                job, expected, seconds = references[index % 3]
                ended = run_command(job.command(inputs), folder, disturb=_stop(rng.uniform(0.1, 0.9) * seconds))
                problems = ended.problems({0})
                if job.results(folder) != expected:
                    problems.append("another result")
                yield Case(job.name, "SIGSTOP, SIGCONT", ended, problems + left_hidden(folder), folder)
    finally:
        server.close()


def _shares(count: int) -> Iterator[tuple[Job, int]]:
    """How many of `count` kills each job gets, at least one as long as there are any."""
    total, left = sum(job.share for job in JOBS), count
    for job in sorted(JOBS, key=lambda job: job.share):
        number = min(left, max(1, round(count * job.share / total)))
        if job.share == max(job.share for job in JOBS):
            number = left
        left -= number
        if number:
            yield job, number


def _killed(job: Job, inputs: Path, folder: Path, expected: dict[str, str], moment: float) -> Case:
    problems: list[str] = []

    def kill(process: subprocess.Popen) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moment)
        process.kill()
        process.wait()
        problems.extend(_left_running(process.pid))

    first = run_command(job.command(inputs), folder, slow=job.slow, disturb=kill)
    problems += first.problems({0, -signal.SIGKILL})
    if job.name != "pumpseg-train":  # the best weights so far are those of an earlier epoch
        problems += job.wrong(folder, expected)
    if job.once and job.results(folder) == expected:
        return Case(job.name, f"killed after {moment:.2f} s, complete", first, problems + left_hidden(folder), folder)
    second = job.run(inputs, folder)
    problems += [f"after the rerun: {problem}" for problem in second.problems({0})]
    found = job.results(folder)
    differing = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
    if differing:
        problems.append(f"after the rerun {', '.join(differing[:5])} differ from an undisturbed run")
    problems += [f"after the rerun {name} is left" for name in left_hidden(folder)]
    return Case(job.name, f"killed after {moment:.2f} s", second, problems, folder)


def _left_running(group: int) -> list[str]:
    until = time.monotonic() + _LEFT_SECONDS
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return []
        time.sleep(0.1)
    return ["processes were left running"]


def _record(server: Server, *more: str) -> list[str]:
    url = f"{server.url}/endless_camera"
    return line("pumpseg-video", url, "--save", "rec.mp4", "--no-show", "--model", "fast-int8", *CPU, *more)


def _killed_live(server: Server, folder: Path, moment: float) -> Case:
    def kill(process: subprocess.Popen) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moment)
        process.kill()

    first = run_command(_record(server), folder, disturb=kill)
    problems = first.problems({-signal.SIGKILL})
    if (folder / "rec.mp4").exists():
        problems.append("the recording has its name already")
    began = min((path.stat().st_ctime for path in folder.glob(".live-*")), default=None)
    parts = [path for path in folder.glob(".live-*") if path.stat().st_size]
    second = run_command(_record(server, "--limit", "5"), folder)
    problems += second.problems({0})
    recovered = folder / "rec.recovered-1.mp4"
    if parts and "an unfinished recording" not in second.errors:
        problems.append("nothing is said of the recording")
    if parts and _frames(recovered) is None:
        problems.append("the recording cannot be read")
    elif began is None and moment > _LIVE_SECONDS:
        problems.append("nothing was recorded")
    if _frames(folder / "rec.mp4") != 5:
        problems.append("the next recording is not whole")
    return Case("pumpseg-video, live", f"killed after {moment:.2f} s", second, problems + left_hidden(folder), folder)


def _stop(moment: float) -> Disturb:
    def stop(process: subprocess.Popen) -> None:
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGSTOP)
            time.sleep(_STOPPED_SECONDS)
            process.send_signal(signal.SIGCONT)

    return stop


def _stopped_live(server: Server, folder: Path, moment: float) -> Case:
    ended: Ended = run_command(_record(server, "--limit", "60"), folder, disturb=_stop(moment))
    problems = ended.problems({0})
    if _frames(folder / "rec.mp4") != 60:
        problems.append("the recording is not whole")
    return Case("pumpseg-video, live", "SIGSTOP, SIGCONT", ended, problems + left_hidden(folder), folder)


def _frames(path: Path) -> int | None:
    """How many frames a recording has, None if it cannot be read to its end."""
    try:
        with av.open(str(path)) as container:
            return sum(1 for _ in container.decode(video=0))
    except OSError:
        return None
