"""The process that measures one row of the benchmark: it loads, warms up, uses memory and may crash on its own.

Started with a JSON object as its only argument, it opens a segmenter, detects the instances of one frame and reports
that it is ready; then it answers requests, one JSON object a line, until its input ends. What libraries print goes to
stderr.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pumpseg.errors import PumpsegError
from pumpseg.instances import Instances
from pumpseg.segmenter import Segmenter
from pumpseg_bench.frames import FrameFile


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a row runs: a model file on a provider with a number of threads, `batch` frames in flight at once."""

    model: str
    provider: str
    threads: int
    batch: int
    frames: FrameFile

    @classmethod
    def from_json(cls, text: str) -> Setup:
        values = json.loads(text)
        frames = values.pop("frames")
        return cls(**values, frames=FrameFile(Path(frames.pop("path")), **frames))

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), default=str)


class SegmenterWorker:
    """The segmenter of one row, and the measurements of it."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._segmenter = Segmenter(setup.model, provider=setup.provider, threads=setup.threads)
        self._pool = ThreadPoolExecutor(setup.batch) if setup.batch > 1 else None
        self._buffers = [setup.frames.empty() for _ in range(setup.batch)]
        self._next = 0
        self._segment(self._read(1))

    def run(self, count: int) -> dict[str, Any]:
        """Milliseconds of `count` frames by step, and the seconds and CPU seconds of inference."""
        from pumpseg.drawing import draw

        steps: dict[str, list[float]] = {name: [] for name in ("latency", "pre", "session", "post", "masks", "draw")}
        seconds = cpu_seconds = 0.0
        detected = 0
        while len(steps["latency"]) < count:
            frames = self._read(min(self._setup.batch, count - len(steps["latency"])))
            cpu_start, start = process_time(), perf_counter()
            results = self._segment(frames)
            seconds += perf_counter() - start
            cpu_seconds += process_time() - cpu_start
            for frame, (instances, timings) in zip(frames, results, strict=True):
                before = perf_counter()
                _ = instances.crop_masks
                pasted = perf_counter()
                draw(frame, instances)
                done = perf_counter()
                stages = (timings.pre, timings.session, timings.post)
                for name, value in zip(steps, (sum(stages), *stages, pasted - before, done - pasted), strict=True):
                    steps[name].append(1000 * value)
                detected += len(instances)
        return {"steps": steps, "seconds": seconds, "cpu_seconds": cpu_seconds, "instances": detected}

    def instances(self) -> list[dict[str, Any]]:
        """The instances of every distinct frame; masks as COCO RLE."""
        frames = []
        for index in range(self._setup.frames.count):
            self._setup.frames.read(index, self._buffers[0])
            instances = self._segmenter(self._buffers[0])
            frames.append(
                {
                    "boxes": instances.boxes.tolist(),
                    "scores": instances.scores.tolist(),
                    "class_ids": instances.class_ids.tolist(),
                    "masks": instances.to_rle(),
                }
            )
        return frames

    def nodes(self) -> dict[str, Any]:
        """Where every node of the graph ran, and the milliseconds a frame of every operator type."""
        from pumpseg_bench.nodes import profile_nodes

        return dataclasses.asdict(
            profile_nodes(Path(self._setup.model), self._setup.provider, self._setup.threads, self._setup.frames)
        )

    def work(self) -> dict[str, Any]:
        """The arithmetic of a frame."""
        from pumpseg_bench.nodes import arithmetic

        return dataclasses.asdict(arithmetic(Path(self._setup.model), self._setup.frames))

    def memory(self) -> int | None:
        """The peak resident set of this process in bytes; None where the system does not report it."""
        return _peak_memory()

    def _segment(self, frames: list[NDArray[np.uint8]]) -> list[tuple[Instances, Any]]:
        if self._pool is None:
            return [self._segmenter.timed(frame) for frame in frames]
        return list(self._pool.map(self._segmenter.timed, frames))

    def _read(self, count: int) -> list[NDArray[np.uint8]]:
        for buffer in self._buffers[:count]:
            self._setup.frames.read(self._next, buffer)
            self._next += 1
        return self._buffers[:count]


def _peak_memory() -> int | None:
    # The peak of getrusage is inherited from the process that started this one.
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    import psutil

    peak: int | None = getattr(psutil.Process().memory_info(), "peak_wset", None)
    if peak is None and sys.platform == "darwin":
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak


def serve(open_worker: Callable[[str], Any]) -> int:
    """Open a worker with the command line's argument and answer requests for its methods until stdin ends.

    A request is {"do": METHOD, ...its arguments}; the answer is {"result": ...} or {"error": LINE}.
    """
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as channel:
        os.dup2(2, 1)

        def answer(value: dict[str, Any]) -> None:
            channel.write(json.dumps(value) + "\n")
            channel.flush()

        try:
            worker = open_worker(sys.argv[1])
        except PumpsegError as error:
            answer({"error": str(error), "kind": type(error).__name__, "advice": getattr(error, "advice", "")})
            return 2
        answer({"result": "ready"})
        for request in map(json.loads, sys.stdin):
            method = request.pop("do")
            try:
                answer({"result": getattr(worker, method)(**request)})
            except Exception as error:
                answer({"error": f"{type(error).__name__}: {error}"})
    return 0


def main() -> int:
    return serve(lambda text: SegmenterWorker(Setup.from_json(text)))


if __name__ == "__main__":
    sys.exit(main())
