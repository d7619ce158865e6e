"""What the figures depend on: the machine, its software, and the load from other processes."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter

import psutil

from pumpseg.inference.cpu import physical_cores
from pumpseg_bench.report import Machine
from pumpseg_bench.worker_process import WorkerProcess

_PACKAGES = [
    "pumpseg",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "openvino",
    "numpy",
    "opencv-python",
    "opencv-python-headless",
]


def describe() -> Machine:
    """This machine, without anything that names it or its user."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return Machine(
        processor=_processor(),
        cores=usable_cores(),
        memory=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.machine()}",
        versions=versions,
    )


def usable_cores() -> int:
    return physical_cores() or psutil.cpu_count(logical=False) or os.cpu_count() or 1


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


class ExternalLoadMeter:
    """Measures how many cores processes other than this one and its workers keep busy, from its creation on."""

    def __init__(self, workers: Sequence[WorkerProcess]) -> None:
        self._workers = workers
        self._start = perf_counter()
        self._before = self._others()

    def cores(self) -> float:
        seconds = perf_counter() - self._start
        return max(0.0, (self._others() - self._before) / seconds) if seconds > 0 else 0.0

    def _others(self) -> float:
        times = psutil.cpu_times()
        # User time includes guest time; steal is what other virtual machines take from this one.
        busy = sum(getattr(times, kind, 0.0) for kind in ("user", "system", "nice", "irq", "softirq", "steal"))
        own = psutil.Process().cpu_times()
        return float(busy - own.user - own.system - sum(worker.cpu_seconds() for worker in self._workers))
