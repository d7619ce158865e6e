"""A batch's inference on a Ray cluster: a task for every image and short video, and for every section of a long one.

Sections begin at key frames. The tasks decode and infer; this machine decodes too, draws and writes, as without a
cluster, and takes a task's result only for a frame of the same time and the same pixels. A frame that a task decoded
differently is inferred here, so the outputs do not depend on where a video was cut.
"""

from __future__ import annotations

import contextlib
import logging
import math
import socket
import tempfile
import threading
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np

from pumpseg.batch.run import open_input
from pumpseg.errors import PumpsegError, SourceError, first_line, require
from pumpseg.instances import Instances
from pumpseg.segmenter import Segmenter
from pumpseg.timings import Timings
from pumpseg.video.pipeline import InferFn, StreamClosed
from pumpseg.video.sources.files import InputFile
from pumpseg.video.sources.frame_source import Frame
from pumpseg.video.sources.video_file import Section, key_frames

log = logging.getLogger("pumpseg")

SECTION_FRAMES = 250
GPU_PROVIDERS = ("cuda", "tensorrt")

_RETRIES = 3
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class TaskResult:
    """What a task inferred from a frame. checksum: CRC-32 of the frame's pixels."""

    checksum: int
    instances: Instances
    timings: Timings


@dataclass(frozen=True)
class TaskSettings:
    """Settings of the segmenter in a task. model: content of the file, which is sent to every node once."""

    model: bytes
    provider: str
    threads: int
    threshold: float
    tiles: int


class RayEngine:
    """Infers the instances of a batch on the Ray cluster that is running: that of RAY_ADDRESS, or this machine's own.

    pumpseg must be installed on every node, and the inputs must be on a file system that all nodes share, under the
    same path. segmenter: the tasks use its model and threshold; it infers the frames that a task decoded differently.
    provider: of the tasks; a GPU provider takes a GPU for each task. threads: CPUs of a task.

    Attributes: `slots`, the tasks that the cluster can run at the same time.

    A task whose worker or node dies is run again, up to three times; then its input fails.
    Raises PumpsegError if Ray is not installed, no cluster is found, or no node can run a task.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        *,
        provider: str = "auto",
        threads: int = 1,
        stop: threading.Event | None = None,
        section_frames: int = SECTION_FRAMES,
    ) -> None:
        self._ray = require("ray", extra="ray")
        self.segmenter = segmenter
        self._stop = stop or threading.Event()
        self.section_frames = section_frames
        self._connected = not self._ray.is_initialized()
        if self._connected:
            try:
                self._ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise PumpsegError(
                    f"no Ray cluster can be reached ({first_line(error)}): name one in RAY_ADDRESS, or start one with "
                    "ray start --head"
                ) from None
        gpus = 1 if provider in GPU_PROVIDERS else 0
        self.slots = sum(_slots(node, threads, gpus) for node in self._ray.nodes() if node["Alive"])
        if not self.slots:
            self.close()
            wanted = f"{threads} CPUs and a GPU" if gpus else f"{threads} CPUs"
            raise PumpsegError(f"no node of the Ray cluster has {wanted} for a task")
        settings = TaskSettings(segmenter.path.read_bytes(), provider, threads, segmenter.threshold, segmenter.tiles)
        self._settings = self._ray.put(settings)
        # Our own errors come back as they are; only failures of the cluster are worth another try.
        self._task = self._ray.remote(infer_section).options(num_cpus=threads, num_gpus=gpus, max_retries=_RETRIES)

    @contextlib.contextmanager
    def inference(self, file: InputFile) -> Iterator[InferFn]:
        """Infers an input's frames, for `process`; tasks still running are cancelled at the end."""
        if file.is_image:
            starts: Sequence[float] = []
        else:
            starts = section_starts(key_frames(file.path), self.section_frames)
        sections = _Sections(self, file.path, starts)
        try:
            yield sections.infer
        finally:
            sections.end()

    def submit(self, path: Path, section: Section) -> Any:
        return self._task.remote(self._settings, str(path.resolve()), path.stat().st_size, section)

    def wait(self, task: Any) -> dict[int | None, TaskResult]:
        """A task's result by the pts of its frames. Raises StreamClosed at a stop, PumpsegError if it failed."""
        try:
            while not self._ray.wait([task], timeout=_POLL_SECONDS)[0]:
                if self._stop.is_set():
                    raise StreamClosed
            result: dict[int | None, TaskResult] = self._ray.get(task)
        except PumpsegError as error:
            # Ray's own class has a traceback in its text.
            raise SourceError(str(getattr(error, "cause", error))) from None
        except self._ray.exceptions.RayError as error:
            reason = first_line(getattr(error, "cause", error))
            raise PumpsegError(f"the Ray cluster failed: {reason}") from None
        return result

    def here(self, frame: Frame) -> tuple[Instances, Timings]:
        """A frame's instances, inferred on this machine."""
        return self.segmenter.infer(frame)

    def cancel(self, task: Any) -> None:
        self._ray.cancel(task, force=False)

    def close(self) -> None:
        """Disconnect from the cluster, if this engine connected to it."""
        if self._connected:
            self._ray.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Sections:
    """The tasks of one input: submitted a little ahead of the frames that are asked for, dropped behind them."""

    def __init__(self, engine: RayEngine, path: Path, starts: Sequence[float]) -> None:
        self._engine = engine
        self._path = path
        self._bounds = [-math.inf, *starts, math.inf]
        self._lock = threading.Lock()
        self._tasks: dict[int, _Task] = {}
        self._submitted = self._inferred_here = 0

    def infer(self, frame: Frame) -> tuple[Instances, Timings]:
        number = 0 if frame.pts is None else bisect_right(self._bounds, frame.pts) - 1
        known = self._task(number).result().get(frame.pts)
        if known is not None and known.checksum == checksum(frame):
            return known.instances, known.timings
        with self._lock:
            self._inferred_here += 1
        return self._engine.here(frame)

    def end(self) -> None:
        for task in self._tasks.values():
            self._engine.cancel(task.reference)
        if self._inferred_here:
            log.info(
                "%s: %d frames were inferred here: the cluster decoded them differently",
                self._path,
                self._inferred_here,
            )

    def _task(self, number: int) -> _Task:
        ahead = 2 * self._engine.slots
        with self._lock:
            while self._submitted < min(number + 1 + ahead, len(self._bounds) - 1):
                section = Section(self._bounds[self._submitted], self._bounds[self._submitted + 1])
                self._tasks[self._submitted] = _Task(self._engine, self._engine.submit(self._path, section))
                self._submitted += 1
            # Frames are asked for in order, but by two threads.
            for old in [n for n in self._tasks if n < number - 1]:
                del self._tasks[old]
            return self._tasks[number]


class _Task:
    """A running task, whose result several threads may ask for."""

    def __init__(self, engine: RayEngine, reference: Any) -> None:
        self.reference = reference
        self._engine = engine
        self._lock = threading.Lock()
        self._result: dict[int | None, TaskResult] | None = None

    def result(self) -> dict[int | None, TaskResult]:
        with self._lock:
            if self._result is None:
                self._result = self._engine.wait(self.reference)
            return self._result


def section_starts(key_frames: Sequence[tuple[int, int]], minimum: int) -> list[float]:
    """Where a video is cut: the pts of key frames, at least `minimum` frames apart.

    key_frames: (number, pts) of every one, the first frame of the file included.
    """
    starts: list[float] = []
    last = 0
    for number, pts in key_frames:
        if number - last >= minimum:
            starts.append(pts)
            last = number
    return starts


def checksum(frame: Frame) -> int:
    """CRC-32 of a frame's pixels and shape."""
    return zlib.crc32(np.ascontiguousarray(frame.image).data, zlib.crc32(repr(frame.image.shape).encode()))


def infer_section(settings: TaskSettings, path: str, size: int, section: Section) -> dict[int | None, TaskResult]:
    """The task: instances of a section's frames, as far as they can be decoded, by their pts.

    size: of the file in bytes, where the batch runs. Raises SourceError if this node does not have that file.
    """
    file = Path(path)
    if not file.is_file() or file.stat().st_size != size:
        raise SourceError(
            f"{path} on the node {socket.gethostname()} is missing or differs: inputs must be on a file system "
            "that all nodes share"
        )
    segmenter = _segmenter(settings)
    results: dict[int | None, TaskResult] = {}
    # Faults of a file are reported where the batch runs, which reads it too.
    with contextlib.suppress(SourceError), open_input(InputFile(file, file), section) as source:
        for frame in source:
            results[frame.pts] = TaskResult(checksum(frame), *segmenter.infer(frame))
    return results


@lru_cache(maxsize=1)
def _segmenter(settings: TaskSettings) -> Segmenter:
    """One for all tasks of a worker process."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.onnx"
        model.write_bytes(settings.model)
        return Segmenter(
            model,
            provider=settings.provider,
            threads=settings.threads,
            threshold=settings.threshold,
            tiles=settings.tiles,
            allow_spinning=False,
        )


def _slots(node: dict[str, Any], cpus: int, gpus: int) -> int:
    resources = node["Resources"]
    slots = int(resources.get("CPU", 0) // cpus)
    return min(slots, int(resources.get("GPU", 0) // gpus)) if gpus else slots
