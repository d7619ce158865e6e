"""The benchmark itself: every row starts cold and warms up, then all rows take turns in rounds.

In a round each row measures a few frames, in an order that changes, so that anything else the machine does affects
all rows alike.
"""

from __future__ import annotations

import contextlib
import random
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pumpseg.errors import ModelFileError, ProviderError
from pumpseg.inference.model import Model
from pumpseg.inference.model_file import choose_model, find_model
from pumpseg.inference.providers import PROVIDERS
from pumpseg.redaction import redacted
from pumpseg_bench import machine
from pumpseg_bench.accuracy_check import compare
from pumpseg_bench.frames import FrameFile, write_frames
from pumpseg_bench.latency import frames_per_second, latency_of
from pumpseg_bench.nodes import Arithmetic
from pumpseg_bench.peak_throughput import Peak, PeakMeter
from pumpseg_bench.report import DEVICES, STAGES, BenchmarkedModel, BenchReport, Row, Unavailable
from pumpseg_bench.worker import Setup
from pumpseg_bench.worker_process import WORKER, WorkerError, WorkerProcess

ROUNDS = 10
WARMUP_FRAMES = 8
COLD_STARTS = 3
OnStep = Callable[[str, float], None]


@dataclass(frozen=True)
class Plan:
    """What to measure.

    models: names as `Segmenter` takes them. providers: names of PROVIDERS. required: a provider that does not load is
    an error. reference: the model whose results on the CPU are the right ones; by default that of each row itself.
    frames: measured of every row.
    """

    models: tuple[str, ...]
    providers: tuple[str, ...]
    required: bool
    threads: tuple[int, ...]
    batches: tuple[int, ...] = (1,)
    source: str = "demo"
    frames: int = 150
    reference: str | None = None


@dataclass
class RunningRow:
    """A row while it is measured. model: its name in the report."""

    model: str
    setup: Setup
    worker: WorkerProcess | None = None
    cold_start: list[float] = field(default_factory=list)
    warmup: list[float] = field(default_factory=list)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    instances: list[dict[str, Any]] | None = None
    peak_memory: int | None = None
    nodes: dict[str, Any] = field(default_factory=dict)
    failure: str | None = None

    @property
    def path(self) -> Path:
        return Path(self.setup.model)

    @property
    def on_cpu(self) -> bool:
        return self.setup.provider not in DEVICES

    def ask(self, method: str, **arguments: Any) -> Any:
        """The worker's answer; None once it has failed."""
        if self.worker is None or self.failure is not None:
            return None
        try:
            return self.worker.ask(method, **arguments)
        except WorkerError as error:
            self.failure = str(error)
            return None


def benchmark(
    plan: Plan, *, command: Sequence[str] = WORKER, on_step: OnStep = lambda text, share: None
) -> BenchReport:
    """Measure all rows of a plan. command: starts a worker. on_step: called with a description and the share done.

    An interrupt during the rounds ends them; the report then has the figures measured so far.
    Raises ModelFileError, SourceError, and ProviderError if a required provider does not load.
    """
    with tempfile.TemporaryDirectory(prefix="pumpseg-bench-") as folder:
        on_step(f"taking frames from {redacted(plan.source)}", 0.0)
        frames = write_frames(plan.source, Path(folder) / "frames")
        rows = planned_rows(plan, frames)
        named_reference = find_model(plan.reference) if plan.reference else None
        with started(rows, command, required=plan.required, on_step=on_step) as (rows, unavailable):
            reference_of = {row.path: named_reference or row.path for row in rows}
            references: dict[Path, list[dict[str, Any]]] = {}
            work: dict[Path, Arithmetic] = {}
            for path in dict.fromkeys((*reference_of, *reference_of.values())):
                on_step(f"{path.name} on the CPU, for reference", 0.3)
                references[path], work[path] = _reference(path, frames, command)
            meters = [PeakMeter(count) for count in sorted({row.setup.threads for row in rows if row.on_cpu})]
            interrupted, other_cores = _measure(plan, rows, meters, on_step)
    peaks = {peak.threads: peak for peak in (meter.peak() for meter in meters if meter.rounds)}
    return BenchReport(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        source=redacted(plan.source),
        frame_size=(frames.height, frames.width),
        distinct_frames=frames.count,
        reference=f"{plan.reference or 'itself'} on cpu",
        machine=machine.describe(),
        other_cores=other_cores,
        peaks=tuple(peaks.values()),
        models=tuple(_model_of(name, path, work[path]) for name, path in {row.model: row.path for row in rows}.items()),
        rows=tuple(
            _report_row(row, references[reference_of[row.path]], work[row.path], peaks.get(row.setup.threads))
            for row in rows
        ),
        unavailable=unavailable,
        interrupted=interrupted,
    )


def planned_rows(plan: Plan, frames: FrameFile) -> list[RunningRow]:
    """The rows of a plan, each with the file that `Segmenter` takes on its provider.

    Raises ModelFileError for a model that does not exist, and for two files of the same name.
    """
    rows: dict[Setup, RunningRow] = {}
    names: dict[str, Path] = {}
    for model in plan.models:
        for provider in plan.providers:
            path, _ = choose_model(model, provider)
            name = path.name if Path(model) == path else path.stem
            if names.setdefault(name, path) != path:
                raise ModelFileError(f"two of the models have the same name: {', '.join(plan.models)}")
            for threads in (max(plan.threads),) if provider in DEVICES else plan.threads:
                for batch in plan.batches:
                    setup = Setup(str(path), provider, threads, batch, frames)
                    rows[setup] = RunningRow(name, setup)
    return list(rows.values())


def _reference(path: Path, frames: FrameFile, command: Sequence[str]) -> tuple[list[dict[str, Any]], Arithmetic]:
    try:
        worker = WorkerProcess(Setup(str(path), "cpu", machine.usable_cores(), 1, frames).to_json(), command).opened()
    except WorkerError as error:
        raise (ModelFileError if error.kind == "ModelFileError" else ProviderError)(str(error)) from None
    with contextlib.closing(worker):
        return worker.ask("instances"), Arithmetic(**worker.ask("work"))


@contextlib.contextmanager
def started(
    rows: Sequence[RunningRow], command: Sequence[str] = WORKER, *, required: bool, on_step: OnStep
) -> Iterator[tuple[list[RunningRow], tuple[Unavailable, ...]]]:
    """Start every row several times; the last workers stay open inside the context.

    Gives the rows whose provider loads a model, and the providers that load none. Raises ProviderError if one of those
    is `required`.
    """
    refusals: dict[str, Unavailable] = {}
    try:
        for start in range(COLD_STARTS):
            for row in rows:
                if row.failure is not None:
                    continue
                provider = PROVIDERS[row.setup.provider]
                on_step(f"cold start of {provider.name}", 0.02 + 0.25 * start / COLD_STARTS)
                try:
                    worker = WorkerProcess(row.setup.to_json(), command).opened()
                except WorkerError as error:
                    row.failure = str(error)
                    if error.kind == "ProviderError":
                        if required:
                            raise ProviderError(row.failure) from None
                        reason = row.failure.removesuffix(f": {error.advice}")
                        refusals[provider.name] = Unavailable(provider.name, reason, error.advice)
                    continue
                row.cold_start.append(worker.cold_start)
                if start == COLD_STARTS - 1:
                    row.worker = worker
                else:
                    worker.close()
        loaded = {row.setup.provider for row in rows if row.cold_start}
        unavailable = {name: refusal for name, refusal in refusals.items() if name not in loaded}
        yield [row for row in rows if row.setup.provider not in unavailable], tuple(unavailable.values())
    finally:
        for row in rows:
            if row.worker is not None:
                row.worker.close()


def _measure(plan: Plan, rows: list[RunningRow], meters: list[PeakMeter], on_step: OnStep) -> tuple[bool, float]:
    """Warm up, run the rounds and ask for the rest. Returns whether it was interrupted, and the cores of others."""
    others = machine.ExternalLoadMeter([row.worker for row in rows if row.worker is not None])
    turns = random.Random(0)
    other_cores = 0.0
    try:
        on_step("warming up, comparing results", 0.32)
        for row in rows:
            warmed = row.ask("run", count=WARMUP_FRAMES)
            row.warmup = warmed["steps"]["latency"] if warmed else []
            row.instances = row.ask("instances")
        for number, count in enumerate(frames_per_round(plan.frames, ROUNDS)):
            on_step(f"round {number + 1} of {ROUNDS}", 0.35 + 0.6 * number / ROUNDS)
            for row in turns.sample(rows, len(rows)):
                # The other rows have emptied the caches and let the processor slow down.
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
            row.nodes = row.ask("nodes") or {}
    except KeyboardInterrupt:
        return True, other_cores or others.cores()
    return False, other_cores


def frames_per_round(frames: int, rounds: int) -> list[int]:
    """Frames of every round, as even as possible; rounds without any are left out."""
    shares = [frames // rounds + (i < frames % rounds) for i in range(rounds)]
    return [share for share in shares if share]


def _report_row(row: RunningRow, reference: list[dict[str, Any]], work: Arithmetic, peak: Peak | None) -> Row:
    setup = row.setup
    steps: dict[str, list[float]] = defaultdict(list)
    for measured in row.rounds:
        for step, milliseconds in measured["steps"].items():
            steps[step] += milliseconds
    rounds = tuple(tuple(measured["steps"]["latency"]) for measured in row.rounds)
    frames = len(steps["latency"])
    seconds = sum(measured["seconds"] for measured in row.rounds)
    stages = {stage: float(np.median(steps[stage])) for stage in STAGES} if frames else {}
    nodes = row.nodes.get("providers", {})
    return Row(
        model=row.model,
        provider=setup.provider,
        threads=setup.threads,
        batch=setup.batch,
        cold_start=tuple(row.cold_start),
        warmup=tuple(row.warmup),
        rounds=rounds,
        frames=frames,
        latency=latency_of(rounds) if frames else None,
        fps=frames_per_second(frames, seconds),
        stages=stages,
        instances_per_frame=sum(measured["instances"] for measured in row.rounds) / frames if frames else None,
        cpu_cores=sum(measured["cpu_seconds"] for measured in row.rounds) / seconds if seconds else None,
        peak_memory=row.peak_memory,
        nodes=nodes,
        fallen_back=bool(nodes) and not nodes.get(setup.provider),
        operators=row.nodes.get("operators", {}),
        agreement=compare(row.instances, reference) if row.instances is not None else None,
        peak_share=peak_share(work, peak, stages["session"])
        if peak and stages and row.on_cpu and setup.batch == 1
        else None,
        failure=row.failure,
    )


def peak_share(work: Arithmetic, peak: Peak, session: float) -> float:
    """Time that the arithmetic alone takes at the measured peak, as a share of `session` milliseconds, at most 1.

    int8 operations count against the peak in int8, the others against that in float32.
    """
    seconds = (work.operations - work.int8) / (1e9 * peak.float32) + work.int8 / (1e9 * peak.int8)
    return min(1.0, 1000 * seconds / session)


def _model_of(name: str, path: Path, work: Arithmetic) -> BenchmarkedModel:
    info = Model.open(path, "cpu", threads=1).info
    return BenchmarkedModel(name, path.stat().st_size, info.profile, info.input_size, work)
