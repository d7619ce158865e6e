"""What a benchmark comes to; `report.schema.json` describes the JSON that is made of it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pumpseg_bench.accuracy_check import Agreement
from pumpseg_bench.latency import Latency
from pumpseg_bench.nodes import Arithmetic
from pumpseg_bench.peak_throughput import Peak

FORMAT = 1
STAGES = ("pre", "session", "post", "masks", "draw")
SCHEMA = Path(__file__).with_name("report.schema.json")


@dataclass(frozen=True)
class Machine:
    """What the figures depend on. cores: physical ones that this process may use. memory: bytes."""

    processor: str
    cores: int
    memory: int
    system: str
    versions: dict[str, str]


@dataclass(frozen=True)
class ModelReport:
    """A model file. size: bytes. input_size: height, width. arithmetic: of one frame; None if it was not counted."""

    name: str
    size: int
    profile: str
    input_size: tuple[int, int]
    arithmetic: Arithmetic | None


@dataclass(frozen=True)
class RowReport:
    """One model on one provider with so many threads. Times are milliseconds unless said otherwise.

    cold_start: seconds from the start of a process to its first instances, of every start. warmup: latency of the
    first frames after it, which count in nothing else. rounds: latency of every frame by round: letterbox, session
    and post-processing of one frame. stages: medians; masks (pasting them into the frame) and draw come after the
    latency. cpu_cores: CPU seconds a second of finding instances. peak_memory: bytes resident. nodes: of the
    optimised graph by the provider that really ran them. fallen_back: none of them ran on the provider named.
    operators: milliseconds a frame by operator type. limit: share of the machine's measured peak that the session
    reaches. failure: what ended the row before its time.
    """

    model: str
    provider: str
    threads: int
    batch: int
    cold_start: tuple[float, ...]
    warmup: tuple[float, ...]
    rounds: tuple[tuple[float, ...], ...]
    latency: Latency | None
    fps: float | None
    stages: dict[str, float]
    instances_per_frame: float | None
    cpu_cores: float | None
    peak_memory: int | None
    nodes: dict[str, int]
    fallen_back: bool
    operators: dict[str, float]
    agreement: Agreement | None
    limit: float | None
    failure: str | None

    @property
    def frames(self) -> int:
        return sum(len(samples) for samples in self.rounds)

    @property
    def label(self) -> str:
        batch = f", {self.batch} at once" if self.batch > 1 else ""
        return f"{self.model}, {self.provider}, {self.threads} thread{'s' * (self.threads > 1)}{batch}"


@dataclass(frozen=True)
class Unavailable:
    """A provider that does not load here: why, and what installs it."""

    provider: str
    reason: str
    install: str


@dataclass(frozen=True)
class Report:
    """A whole run. other_cores: cores that other processes kept busy meanwhile, on average."""

    created: str
    source: str
    frame_size: tuple[int, int]
    distinct_frames: int
    reference: str
    machine: Machine
    other_cores: float
    peaks: tuple[Peak, ...]
    models: tuple[ModelReport, ...]
    rows: tuple[RowReport, ...]
    absent: tuple[Unavailable, ...]
    interrupted: bool
    format: int = FORMAT

    @property
    def noisy(self) -> bool:
        """Whether others used more than a tenth of the machine."""
        return self.other_cores > 0.1 * self.machine.cores

    def model(self, row: RowReport) -> ModelReport:
        return next(model for model in self.models if model.name == row.model)

    def problems(self) -> list[str]:
        """Rows not to be trusted, one line each."""
        lines = []
        for row in self.rows:
            if row.failure:
                lines.append(f"{row.label}: failed: {row.failure}")
            if row.fallen_back:
                nodes = ", ".join(f"{count} on {place}" for place, count in row.nodes.items())
                lines.append(f"{row.label}: has fallen back: of its nodes none ran on {row.provider} ({nodes})")
            if row.agreement is not None and not row.agreement.agrees:
                iou = row.agreement.mask_iou
                lines.append(
                    f"{row.label}: disagrees with {self.reference}: {row.agreement.matched:.0%} of the instances match"
                    + ("" if iou is None else f", mean mask IoU {iou:.3f}")
                )
        return lines


def as_json(report: Report) -> dict[str, Any]:
    """The report as JSON values."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(report)))
    for row, value in zip(report.rows, values["rows"], strict=True):
        value["frames"] = row.frames
    return values
