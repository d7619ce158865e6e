"""The text and tables of a report, the same on the terminal and on the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pumpseg.plural import counted
from pumpseg_bench.latency import MIN_FOR_FPS
from pumpseg_bench.report import STAGES, BenchReport, Comparison, Row

NOTHING = "–"
OPERATORS_SHOWN = 8


@dataclass(frozen=True)
class Section:
    """A table of the report. left: how many columns are text. wrong: numbers of the rows not to be trusted."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1
    wrong: frozenset[int] = frozenset()


def headline(report: BenchReport) -> list[str]:
    """What was measured, and on what."""
    machine, (height, width) = report.machine, report.frame_size
    lines = [
        f"{machine.processor}, {counted(machine.cores, 'core')}, {machine.memory / 2**30:.0f} GiB, {machine.system}",
        ", ".join(f"{name} {number}" for name, number in machine.versions.items()),
        f"{counted(report.distinct_frames, 'frame')} of {width}x{height} from {report.source}, {report.created}",
    ]
    for model in report.models:
        side = "x".join(str(side) for side in reversed(model.input_size))
        line = f"{model.name}: {model.profile}, input {side}, {model.size / 1e6:.1f} MB"
        if model.arithmetic is not None:
            line += f", {model.arithmetic.operations / 1e9:.2f} GFLOP a frame"
            if model.arithmetic.int8:
                line += f", {model.arithmetic.int8 / model.arithmetic.operations:.0%} in int8"
        lines.append(line)
    for peak in report.peaks:
        threads = f"{peak.threads} thread{'s' * (peak.threads > 1)}"
        lines.append(f"peak of {threads}: {peak.float32:.0f} GFLOP/s in float32, {peak.int8:.0f} GOP/s in int8")
    return lines


def speed(report: BenchReport) -> Section:
    """Latency, throughput and start of every row."""
    columns = ("row", "p50", "95% interval", "p90", "p99", "max", "fps", "cold start", "warm-up", "of peak")
    rows = []
    for row in report.rows:
        latency = row.latency
        figures = (None,) * 4 if latency is None else (latency.p50, latency.p90, latency.p99, latency.max)
        p50, *others = (_cell(figure, "{:.1f}") for figure in figures)
        interval = NOTHING if latency is None else "{:.1f}–{:.1f}".format(*latency.p50_interval)
        cold_start = sorted(row.cold_start)[len(row.cold_start) // 2] if row.cold_start else None
        rows.append(
            [
                *(row.label, p50, interval, *others, _cell(row.fps, "{:.1f}"), _cell(cold_start, "{:.2f} s")),
                *(_cell(max(row.warmup, default=None), "{:.1f}"), _cell(row.peak_share, "{:.0%}")),
            ]
        )
    return Section("Speed (latency in ms)", columns, rows)


def stages(report: BenchReport) -> Section:
    """How long every stage of a frame takes in every row."""
    rows = [
        [
            row.label,
            *(_cell(row.stages.get(stage), "{:.2f}") for stage in STAGES),
            _cell(row.cpu_cores, "{:.2f}"),
            _cell(None if row.peak_memory is None else row.peak_memory / 2**20, "{:.0f} MiB"),
        ]
        for row in report.rows
    ]
    return Section("Stages of a frame (median ms)", ("row", *STAGES, "CPU cores", "peak memory"), rows)


def trust(report: BenchReport) -> Section:
    """What ran each row's nodes, and whether its results are right."""
    rows = []
    for row in report.rows:
        nodes = ", ".join(f"{count} {provider}" for provider, count in row.nodes.items()) or NOTHING
        cells = [row.label, nodes + (" (fallen back)" if row.fallen_back else "")]
        if row.agreement is None:
            cells += [NOTHING] * 3
        else:
            matched = f"{row.agreement.matched:.0%}" + ("" if row.agreement.agrees else " (disagrees)")
            cells += [str(row.agreement.instances), matched, _cell(row.agreement.mask_iou, "{:.3f}")]
        rows.append(cells)
    wrong = frozenset(number for number, row in enumerate(report.rows) if row.wrong)
    columns = ("row", "nodes ran on", "instances", "matched", "mask IoU")
    return Section("What ran, and whether it is right", columns, rows, left=2, wrong=wrong)


def against(comparison: Comparison) -> Section:
    """The rows that an earlier report has too, next to its figures."""
    columns = ["row", "p50 there", "here", "here / there", "95% interval", "session there", "here"]
    columns += ["cold start there", "here", "memory there", "here"]
    rows = [
        [
            *(row.row, *(f"{p50:.1f}" for p50 in row.latency), f"{row.ratio:.2f}"),
            "{:.2f}–{:.2f}".format(*row.ratio_interval),
            *(f"{session:.1f}" for session in row.session),
            *(f"{seconds:.2f} s" for seconds in row.cold_start),
            *(_cell(None if size is None else size / 2**20, "{:.0f} MiB") for size in row.peak_memory),
        ]
        for row in comparison.rows
    ]
    machine = comparison.machine
    there = f"{machine.processor}, {counted(machine.cores, 'core')}, {machine.system}, {comparison.created}"
    return Section(f"Against {comparison.file} ({there}; ms)", columns, rows)


def _against_warnings(comparison: Comparison) -> list[str]:
    """What to know before comparing."""
    lines = list(comparison.differences)
    if comparison.noisy:
        lines.append(f"the machine was busy when {comparison.file} was measured")
    for place, only in (("there", comparison.only_there), ("here", comparison.only_here)):
        if only:
            lines.append(f"measured {place} only: {'; '.join(only)}")
    if not comparison.rows:
        lines.append(f"no row is in both: measure the models, providers and threads of {comparison.file}")
    return [f"{comparison.file}: {line}" for line in lines]


def operators(row: Row) -> Section:
    """The slowest operator types of a row, and the sum of the others."""
    total = sum(row.operators.values()) or 1.0
    slowest = dict(list(row.operators.items())[:OPERATORS_SHOWN])
    others = len(row.operators) - len(slowest)
    if others:
        slowest[f"{others} others"] = total - sum(slowest.values())
    rows = [[name, f"{milliseconds:.2f}", f"{milliseconds / total:.0%}"] for name, milliseconds in slowest.items()]
    return Section(f"Operators of {row.label}", ("operator", "ms a frame", "share"), rows)


def unavailable(report: BenchReport) -> Section:
    """The providers that do not load on this machine."""
    rows = [[provider.provider, provider.reason, provider.install] for provider in report.unavailable]
    return Section("Not available", ("provider", "reason", "what to do"), rows, left=3)


def notes(report: BenchReport) -> list[str]:
    """How to read the figures."""
    lines = [
        "latency: one frame through Segmenter (pre + session + post), per frame of a batch; masks and draw are extra",
        "rows took turns in rounds; the interval is that of the median",
        "cold start: process start to first instances, files in the system's cache; warm-up: slowest frame after it",
        "of peak: share of this machine's measured peak that the session reaches",
        f"matched, mask IoU: compared with {report.reference}",
    ]
    if report.against is not None:
        lines.append(f"here / there: this run's p50 as a multiple of that in {report.against.file}; below 1 is faster")
    return lines


def warnings(report: BenchReport) -> list[str]:
    """What to know before trusting a figure."""
    lines = report.problems()
    if report.interrupted:
        lines.append("interrupted: the figures are those measured so far")
    if report.rows and all(row.fps is None for row in report.rows):
        lines.append(f"fewer than {MIN_FOR_FPS} frames a row: too few for an fps figure")
    if report.noisy:
        lines.append(
            f"the machine was busy: other processes used {report.other_cores:.1f} of {report.machine.cores} cores"
        )
    if report.rows and not any(row.instances_per_frame for row in report.rows):
        lines.append(
            f"nothing was detected in {report.source}: agreement proves little, and frames with instances take longer"
        )
    if report.against is not None:
        lines += _against_warnings(report.against)
    return lines


def _cell(value: float | None, pattern: str) -> str:
    return NOTHING if value is None else pattern.format(value)
