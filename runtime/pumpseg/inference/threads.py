"""How many frames are inferred at the same time, and by how many threads."""

from __future__ import annotations

import os
from dataclasses import dataclass

from pumpseg.inference.cpu import physical_cores
from pumpseg.inference.providers import PROVIDERS

MAX_WORKERS = 8  # every frame in flight needs memory of its own
_GPU_WORKERS = 2


@dataclass(frozen=True)
class ThreadPlan:
    """How a run uses the cores. workers: frames at a time, in each job. threads: of the session that all share.

    A session's threads count the worker that calls it, so a run keeps workers * jobs + threads - 1 cores busy.
    """

    workers: int
    threads: int

    def workers_on(self, provider: str) -> int:
        """The workers that a provider can use. A GPU runs one frame while another is prepared; more would wait."""
        return min(self.workers, _GPU_WORKERS) if PROVIDERS[provider].device else self.workers


def usable_cores(cores: int | None = None) -> int:
    """The given number, or else the physical cores that are available to this process; at least 1."""
    return cores or physical_cores() or os.cpu_count() or 1


def plan_threads(cores: int | None = None, *, live: bool = False, jobs: int = 1) -> ThreadPlan:
    """The plan that gets the most frames of a file done, or the newest frame of a live source soonest.

    Frames of a file have a thread each: no thread waits for another, and decoding and encoding find room in between.
    cores: to use, by default the physical cores available to this process. jobs: files at the same time.
    """
    cores = usable_cores(cores)
    workers = 1 if live else max(1, min(cores, MAX_WORKERS) // jobs)
    return ThreadPlan(workers, max(1, cores - workers * jobs + 1))


def plan_turns(cores: int | None, cameras: int) -> ThreadPlan:
    """The plan for cameras that share a session. workers: how many of their frames are inferred at the same time.

    Frames of different cameras have a thread each: no thread waits for another. cores: None for the physical ones.
    """
    cores = usable_cores(cores)
    turns = min(cores, cameras)
    return ThreadPlan(turns, cores - turns + 1)
