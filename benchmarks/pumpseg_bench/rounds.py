"""The benchmark itself: every row starts cold and warms up, then all of them take turns in rounds.

In a round each row measures a few frames, in an order that changes, so that whatever else the machine does meets
all rows alike.
"""

from __future__ import annotations

import random
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pumpseg.errors import ModelFileError, ProviderError
from pumpseg.inference.model_file import ModelInfo, find_model, parse_metadata
from pumpseg.inference.providers import PROVIDERS, open_session
from pumpseg_bench import machine
from pumpseg_bench.accuracy_check import Agreement, compare
from pumpseg_bench.frames import FrameFile, write_frames
from pumpseg_bench.latency import frames_per_second, latency_of
from pumpseg_bench.nodes import Arithmetic
from pumpseg_bench.peak_throughput import Peak, PeakMeter
from pumpseg_bench.report import STAGES, ModelReport, Report, RowReport, Unavailable
from pumpseg_bench.worker import Setup
from pumpseg_bench.worker_process import WORKER, WorkerError, WorkerProcess

ROUNDS = 10
WARMUP_FRAMES = 8
COLD_STARTS = 3
# Threads of the CPU make no difference to these.
_DEVICES = frozenset({"cuda", "tensorrt", "coreml", "directml"})


@dataclass(frozen=True)
class Plan:
    """What to measure. models: shipped names or files. providers: their names; binding says that the user named them,
    so that one that does not load is an error. reference: whose results on the CPU the others are compared with;
    every model's own by default. frames: measured of every row."""

    models: tuple[str, ...]
    providers: tuple[str, ...]
    binding: bool
    threads: tuple[int, ...]
    batches: tuple[int, ...] = (1,)
    source: str = "demo"
    frames: int = 150
    reference: str | None = None


@dataclass
class _Row:
    """A row while it is measured."""

    model: str
    setup: Setup
    worker: WorkerProcess | None = None
    cold_start: list[float] = field(default_factory=list)
    warmup: list[float] = field(default_factory=list)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    found: list[dict[str, Any]] | None = None
    peak_memory: int | None = None
    nodes: dict[str, Any] | None = None
    failure: str | None = None

    def ask(self, method: str, **arguments: Any) -> Any:
        """What the worker answers; None once it has failed."""
        if self.worker is None or self.failure is not None:
            return None
        try:
            return self.worker.ask(method, **arguments)
        except WorkerError as error:
            self.failure = str(error)
            return None


def benchmark(
    plan: Plan,
    *,
    command: Sequence[str] = WORKER,
    on_step: Callable[[str, float], None] = lambda text, share: None,
) -> Report:
    """Measure all rows of a plan; `command` starts a worker. on_step is told what happens, and the share done.

    Once the rounds have begun an interrupt ends them, and the report says what was measured until then.
    Raises ModelFileError, SourceError, and ProviderError if a provider that the user named does not load.
    """
    paths = {Path(model).name: find_model(model) for model in plan.models}
    if len(paths) < len(plan.models):
        raise ModelFileError(f"two of the models have the same name: {', '.join(plan.models)}")
    reference_paths = {name: find_model(plan.reference) if plan.reference else path for name, path in paths.items()}
    rows: list[_Row] = []
    with tempfile.TemporaryDirectory(prefix="pumpseg-bench-") as folder:
        on_step(f"taking frames from {plan.source}", 0.0)
        frames = write_frames(plan.source, Path(folder) / "frames")
        try:
            references: dict[Path, list[dict[str, Any]]] = {}
            work: dict[Path, Arithmetic] = {}
            for path in dict.fromkeys((*paths.values(), *reference_paths.values())):
                on_step(f"{path.name} on the CPU, for reference", 0.02)
                references[path], work[path] = _reference(path, frames, command)
            rows, absent = _start(plan, paths, frames, command, on_step)
            meters = [PeakMeter(count) for count in sorted({row.setup.threads for row in rows if _on_cpu(row)})]
            interrupted, other_cores = _measure(plan, rows, meters, on_step)
        finally:
            for row in rows:
                if row.worker is not None:
                    row.worker.close()
    peaks = {peak.threads: peak for peak in (meter.peak() for meter in meters if meter.rounds)}
    return Report(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        source=plan.source,
        frame_size=(frames.height, frames.width),
        distinct_frames=frames.count,
        reference=f"{plan.reference or 'itself'} on cpu",
        machine=machine.describe(),
        other_cores=other_cores,
        peaks=tuple(peaks.values()),
        models=tuple(_model_report(name, path, work.get(path)) for name, path in paths.items()),
        rows=tuple(
            _row_report(row, references[reference_paths[row.model]], work[paths[row.model]], peaks) for row in rows
        ),
        absent=absent,
        interrupted=interrupted,
    )


def _reference(path: Path, frames: FrameFile, command: Sequence[str]) -> tuple[list[dict[str, Any]], Arithmetic]:
    try:
        worker = WorkerProcess(Setup(str(path), "cpu", machine.usable_cores(), 1, frames).to_json(), command).opened()
    except WorkerError as error:
        raise (ModelFileError if error.kind == "ModelFileError" else ProviderError)(str(error)) from None
    try:
        return worker.ask("instances"), Arithmetic(**worker.ask("work"))
    finally:
        worker.close()


def _start(
    plan: Plan,
    paths: dict[str, Path],
    frames: FrameFile,
    command: Sequence[str],
    on_step: Callable[[str, float], None],
) -> tuple[list[_Row], tuple[Unavailable, ...]]:
    """Start every row several times; the workers of the last time stay. Providers that load no model come second."""
    rows = [
        _Row(model, Setup(str(path), provider, threads, batch, frames))
        for model, path in paths.items()
        for provider in plan.providers
        for threads in ((max(plan.threads),) if provider in _DEVICES else plan.threads)
        for batch in plan.batches
    ]
    refusals: dict[str, Unavailable] = {}
    try:
        for start in range(COLD_STARTS):
            for row in rows:
                if row.failure is not None:
                    continue
                on_step(f"cold start of {row.setup.provider}", 0.05 + 0.25 * start / COLD_STARTS)
                try:
                    worker = WorkerProcess(row.setup.to_json(), command).opened()
                except WorkerError as error:
                    if error.kind == "ProviderError" and plan.binding:
                        raise ProviderError(str(error)) from None
                    if error.kind == "ProviderError":
                        provider = PROVIDERS[row.setup.provider]
                        refusals[provider.name] = Unavailable(
                            provider.name, _without_install(str(error)), provider.install
                        )
                    row.failure = str(error)
                    continue
                row.cold_start.append(worker.cold_start)
                if start == COLD_STARTS - 1:
                    row.worker = worker
                else:
                    worker.close()
    except BaseException:
        for row in rows:
            if row.worker is not None:
                row.worker.close()
        raise
    loaded = {row.setup.provider for row in rows if row.cold_start}
    absent = tuple(refusal for name, refusal in refusals.items() if name not in loaded)
    unloaded = {refusal.provider for refusal in absent}
    return [row for row in rows if row.setup.provider not in unloaded], absent


def _measure(
    plan: Plan, rows: list[_Row], meters: list[PeakMeter], on_step: Callable[[str, float], None]
) -> tuple[bool, float]:
    """Warm up, run the rounds and ask for the rest. Returns whether it was interrupted, and the cores of others."""
    others = machine.ExternalLoadMeter([row.worker for row in rows if row.worker is not None])
    turns = random.Random(0)
    other_cores = 0.0
    try:
        on_step("warming up, comparing results", 0.3)
        for row in rows:
            warmed = row.ask("run", count=WARMUP_FRAMES)
            row.warmup = warmed["steps"]["latency"] if warmed else []
            row.found = row.ask("instances")
        for number, count in enumerate(_shares(plan.frames, ROUNDS)):
            on_step(f"round {number + 1} of {ROUNDS}", 0.35 + 0.6 * number / ROUNDS)
            for row in turns.sample(rows, len(rows)):
                # The others have emptied the caches and let the processor slow down.
                row.ask("run", count=row.setup.batch)
                measured = row.ask("run", count=count)
                if measured:
                    row.rounds.append(measured)
            for meter in meters:
                meter.run()
        other_cores = others.cores()
        on_step("asking where the nodes ran", 0.95)
        for row in rows:
            row.peak_memory = row.ask("memory")
            row.nodes = row.ask("nodes")
    except KeyboardInterrupt:
        return True, other_cores or others.cores()
    return False, other_cores


def _shares(frames: int, rounds: int) -> list[int]:
    """Frames of every round, as even as can be; rounds without any are left out."""
    shares = [frames // rounds + (i < frames % rounds) for i in range(rounds)]
    return [share for share in shares if share]


def _row_report(row: _Row, reference: list[dict[str, Any]], work: Arithmetic, peaks: dict[int, Peak]) -> RowReport:
    setup = row.setup
    rounds = tuple(tuple(measured["steps"]["latency"]) for measured in row.rounds)
    frames = sum(len(samples) for samples in rounds)
    seconds = sum(measured["seconds"] for measured in row.rounds)
    stages: dict[str, float] = {}
    if frames:
        pooled: dict[str, list[float]] = defaultdict(list)
        for measured in row.rounds:
            for stage in STAGES:
                pooled[stage] += measured["steps"][stage]
        stages = {stage: float(np.median(values)) for stage, values in pooled.items()}
    nodes = row.nodes["providers"] if row.nodes else {}
    agreement: Agreement | None = compare(row.found, reference) if row.found is not None else None
    return RowReport(
        model=row.model,
        provider=setup.provider,
        threads=setup.threads,
        batch=setup.batch,
        cold_start=tuple(row.cold_start),
        warmup=tuple(row.warmup),
        rounds=rounds,
        latency=latency_of(rounds) if frames else None,
        fps=frames_per_second(frames, seconds),
        stages=stages,
        instances_per_frame=sum(measured["instances"] for measured in row.rounds) / frames if frames else None,
        cpu_cores=sum(measured["cpu_seconds"] for measured in row.rounds) / seconds if seconds else None,
        peak_memory=row.peak_memory,
        nodes=nodes,
        fallen_back=bool(nodes) and not nodes.get(setup.provider),
        operators=row.nodes["operators"] if row.nodes else {},
        agreement=agreement,
        limit=_limit(work, peaks.get(setup.threads), stages) if _on_cpu(row) and setup.batch == 1 else None,
        failure=row.failure,
    )


def _limit(work: Arithmetic, peak: Peak | None, stages: dict[str, float]) -> float | None:
    """Time that the arithmetic alone would take at the measured peak, as a share of what the session takes."""
    if peak is None or not stages:
        return None
    ideal = (work.operations - work.int8) / (1e9 * peak.float32) + work.int8 / (1e9 * peak.int8)
    return 1000 * ideal / stages["session"]


def _on_cpu(row: _Row) -> bool:
    return row.setup.provider not in _DEVICES


def _model_report(name: str, path: Path, work: Arithmetic | None) -> ModelReport:
    session, _ = open_session(path, "cpu", threads=1)
    info: ModelInfo = parse_metadata(session.get_modelmeta().custom_metadata_map, path)
    return ModelReport(name, path.stat().st_size, info.profile, info.input_size, work)


def _without_install(reason: str) -> str:
    """The install line stands in a column of its own."""
    return reason.rsplit(": pip ", 1)[0]
