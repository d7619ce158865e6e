"""The result of a benchmark: what it measured, on what machine, and which rows not to trust."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Annotated, Any

from pumpseg_bench.accuracy_check import Agreement
from pumpseg_bench.json_schema import schema_of
from pumpseg_bench.latency import Latency
from pumpseg_bench.nodes import Arithmetic
from pumpseg_bench.peak_throughput import Peak

FORMAT = 3
STAGES = ("pre", "session", "post", "masks", "draw")
# The number of CPU threads makes no difference to these.
DEVICES = frozenset({"cuda", "tensorrt", "coreml", "directml"})


@dataclass(frozen=True)
class Machine:
    """The machine that the figures depend on."""

    processor: str
    cores: Annotated[int, "physical cores that the process may use"]
    memory: Annotated[int, "bytes"]
    system: str
    versions: Annotated[dict[str, str], "of Python and of the packages that matter"]


@dataclass(frozen=True)
class BenchmarkedModel:
    """A model file."""

    name: str
    size: Annotated[int, "bytes of the file"]
    profile: str
    input_size: Annotated[tuple[int, int], "height and width in pixels"]
    arithmetic: Annotated[Arithmetic | None, "of one frame, averaged over real ones"]


@dataclass(frozen=True)
class Row:
    """One model on one provider with a number of threads. Times are milliseconds unless the field says otherwise."""

    model: str
    provider: str
    threads: int
    batch: Annotated[int, "frames in flight at once, each on a thread of its own"]
    cold_start: Annotated[tuple[float, ...], "seconds from process start to the first instances, of every start"]
    warmup: Annotated[tuple[float, ...], "latency of the first frames, which count in nothing else"]
    rounds: Annotated[
        tuple[tuple[float, ...], ...], "latency of every frame (letterbox, session, post-processing), by round"
    ]
    frames: Annotated[int, "measured in all rounds"]
    latency: Annotated[Latency | None, "null if nothing was measured"]
    fps: Annotated[float | None, "frames per second through Segmenter; null from fewer than 30 frames"]
    stages: Annotated[
        dict[str, float],
        "medians of pre, session and post, and of pasting masks and drawing, which come on top of the latency; "
        "empty if nothing was measured",
    ]
    instances_per_frame: float | None
    cpu_cores: Annotated[float | None, "CPU seconds per second of inference"]
    peak_memory: Annotated[int | None, "bytes resident at most, before profiling"]
    nodes: Annotated[dict[str, int], "nodes of the optimised graph by the provider that ran them"]
    fallen_back: Annotated[bool, "no node ran on the provider of the row"]
    operators: Annotated[dict[str, float], "milliseconds a frame by operator type, the slowest first"]
    agreement: Annotated[Agreement | None, "with the reference; null if the row failed before"]
    peak_share: Annotated[
        float | None,
        "time that the arithmetic takes at the measured peak, as a share of the session's median; "
        "null where the CPU's peak says nothing",
    ]
    failure: Annotated[str | None, "what ended the row early"]

    @property
    def label(self) -> str:
        batch = f", {self.batch} at once" if self.batch > 1 else ""
        return f"{self.model}, {self.provider}, {self.threads} thread{'s' * (self.threads > 1)}{batch}"

    @property
    def wrong(self) -> bool:
        """Whether the figures are of something else than the row's name says."""
        return self.fallen_back or (self.agreement is not None and not self.agreement.agrees)


@dataclass(frozen=True)
class Unavailable:
    """A provider that does not load on this machine."""

    provider: str
    reason: str
    install: Annotated[str, "how to get it"]


@dataclass(frozen=True)
class ComparedRow:
    """A row that an earlier report has too. Milliseconds; `there` is that report, `here` this one."""

    row: Annotated[str, "model, provider, threads and batch"]
    latency: Annotated[tuple[float, float], "median there and here"]
    ratio: Annotated[float, "the latter divided by the former: below 1, a frame takes less time here"]
    ratio_interval: Annotated[tuple[float, float], "its 95% confidence interval"]
    session: Annotated[tuple[float, float], "median of the session alone, there and here"]
    cold_start: Annotated[tuple[float, float], "median there and here, seconds"]
    peak_memory: Annotated[tuple[int | None, int | None], "there and here"]


@dataclass(frozen=True)
class Comparison:
    """This report next to an earlier one, of another machine or version."""

    file: Annotated[str, "name of the earlier report's file"]
    created: str
    machine: Machine
    rows: tuple[ComparedRow, ...]
    only_there: Annotated[tuple[str, ...], "rows measured in the earlier report only"]
    only_here: tuple[str, ...]
    differences: Annotated[tuple[str, ...], "what differs besides the machine: its software, models, frames"]
    noisy: Annotated[bool, "other processes used more than a tenth of the machine there"]


@dataclass(frozen=True)
class BenchReport:
    """Report of pumpseg-bench. Times are milliseconds and sizes bytes unless a description says otherwise."""

    created: Annotated[str, "ISO 8601, UTC"]
    source: Annotated[str, "where the frames come from, as the user named it"]
    frame_size: Annotated[tuple[int, int], "height and width in pixels"]
    distinct_frames: Annotated[int, "frames taken from the source; rows repeat them"]
    reference: Annotated[str, "whose results the rows are compared with"]
    machine: Machine
    other_cores: Annotated[float, "cores that other processes kept busy during the rounds, on average"]
    peaks: Annotated[tuple[Peak, ...], "measured through ONNX Runtime's CPU provider in the same rounds"]
    models: tuple[BenchmarkedModel, ...]
    rows: tuple[Row, ...]
    unavailable: tuple[Unavailable, ...]
    interrupted: bool
    against: Annotated[Comparison | None, "of --against"] = None
    format: int = FORMAT

    @property
    def noisy(self) -> bool:
        """Whether other processes used more than a tenth of the machine."""
        return self.other_cores > 0.1 * self.machine.cores

    def problems(self) -> list[str]:
        """Rows not to be trusted, one line each."""
        lines = []
        for row in self.rows:
            if row.failure:
                lines.append(f"{row.label}: failed: {row.failure}")
            if row.fallen_back:
                nodes = ", ".join(f"{count} on {place}" for place, count in row.nodes.items())
                lines.append(f"{row.label}: has fallen back: none of its nodes ran on {row.provider} ({nodes})")
            if row.agreement is not None and not row.agreement.agrees:
                iou = row.agreement.mask_iou
                lines.append(
                    f"{row.label}: disagrees with {self.reference}: {row.agreement.matched:.0%} of the instances match"
                    + ("" if iou is None else f", mean mask IoU {iou:.3f}")
                )
        return lines


def as_json(report: BenchReport) -> dict[str, Any]:
    """The report as JSON values."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(report)))
    return values


def json_schema() -> dict[str, Any]:
    """The JSON schema of `as_json`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Report of pumpseg-bench --json",
        "description": "Times are milliseconds and sizes bytes unless a description says otherwise.",
        **schema_of(BenchReport),
    }
