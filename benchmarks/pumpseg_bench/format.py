"""The words and cells of a report, the same on the terminal and on the page."""

from __future__ import annotations

from collections.abc import Iterator

from pumpseg_bench.latency import FEWEST_FOR_FPS
from pumpseg_bench.report import STAGES, Report, RowReport

NOTHING = "–"
SPEED = ("row", "p50", "95% interval", "p90", "p99", "max", "fps", "cold start", "warm-up", "limit")
STAGE_COLUMNS = ("row", *STAGES, "CPU cores", "peak memory")
TRUST = ("row", "nodes ran on", "found", "matched", "mask IoU")


def headline(report: Report) -> list[str]:
    """What was measured, on what."""
    machine, (height, width) = report.machine, report.frame_size
    lines = [
        f"{machine.processor}, {machine.cores} cores, {machine.memory / 2**30:.0f} GiB, {machine.system}",
        ", ".join(f"{name} {number}" for name, number in machine.versions.items()),
        f"{report.distinct_frames} frames of {width}x{height} from {report.source}, {report.created}",
    ]
    for model in report.models:
        work = ""
        if model.arithmetic is not None:
            share = model.arithmetic.int8 / model.arithmetic.operations if model.arithmetic.operations else 0
            work = f", {model.arithmetic.operations / 1e9:.2f} GFLOP a frame" + (
                f", {share:.0%} in int8" if share else ""
            )
        side = "x".join(str(side) for side in reversed(model.input_size))
        lines.append(f"{model.name}: {model.profile}, input {side}, {model.size / 1e6:.1f} MB{work}")
    for peak in report.peaks:
        lines.append(
            f"peak of {_threads(peak.threads)}: {peak.float32:.0f} GFLOP/s in float32, {peak.int8:.0f} GOP/s in int8"
        )
    return lines


def notes(report: Report) -> list[str]:
    """How to read the figures."""
    return [
        "latency: one frame through Segmenter (pre + session + post), batches by the frame; masks and draw come on top",
        "rows took turns in rounds; the interval is that of the median",
        "cold start: process start to first instances, files in the system's cache; warm-up: slowest frame after it",
        "limit: share of this machine's measured peak that the session reaches",
        f"matched, mask IoU: against {report.reference}",
    ]


def warnings(report: Report) -> list[str]:
    """What a reader must know before believing a figure."""
    lines = report.problems()
    if report.interrupted:
        lines.append("interrupted: what was measured until then")
    if report.rows and all(row.fps is None for row in report.rows):
        lines.append(f"fewer than {FEWEST_FOR_FPS} frames a row: too few to speak of fps")
    if report.noisy:
        lines.append(
            f"other processes kept {report.other_cores:.1f} of {report.machine.cores} cores busy meanwhile: "
            "these are figures of a busy machine"
        )
    if report.rows and not any(row.instances_per_frame for row in report.rows):
        lines.append(
            f"nothing was found in {report.source}: agreement says little, and frames with instances take longer"
        )
    return lines


def speed(row: RowReport) -> list[str]:
    latency = row.latency
    interval = NOTHING if latency is None else "{:.1f}–{:.1f}".format(*latency.p50_interval)
    return [
        row.label,
        _number(None if latency is None else latency.p50),
        interval,
        _number(None if latency is None else latency.p90),
        _number(None if latency is None else latency.p99),
        _number(None if latency is None else latency.max),
        _number(row.fps),
        NOTHING if not row.cold_start else f"{sorted(row.cold_start)[len(row.cold_start) // 2]:.2f} s",
        _number(max(row.warmup, default=None)),
        NOTHING if row.limit is None else f"{row.limit:.0%}",
    ]


def stages(row: RowReport) -> list[str]:
    memory = NOTHING if row.peak_memory is None else f"{row.peak_memory / 2**20:.0f} MiB"
    return [
        row.label,
        *(NOTHING if stage not in row.stages else f"{row.stages[stage]:.2f}" for stage in STAGES),
        NOTHING if row.cpu_cores is None else f"{row.cpu_cores:.2f}",
        memory,
    ]


def trust(row: RowReport) -> list[str]:
    nodes = ", ".join(f"{count} {provider}" for provider, count in row.nodes.items()) or NOTHING
    agreement = row.agreement
    return [
        row.label,
        nodes + (" (fallen back)" if row.fallen_back else ""),
        NOTHING if agreement is None else str(agreement.instances),
        NOTHING if agreement is None else f"{agreement.matched:.0%}" + ("" if agreement.agrees else " (disagrees)"),
        NOTHING if agreement is None or agreement.mask_iou is None else f"{agreement.mask_iou:.3f}",
    ]


def operators(times: dict[str, float], shown: int) -> Iterator[list[str]]:
    """The slowest operator types, and what the others come to."""
    total = sum(times.values()) or 1.0
    slowest = list(times.items())[:shown]
    rest = total - sum(spent for _, spent in slowest)
    if len(times) > shown:
        slowest.append((f"{len(times) - shown} others", rest))
    for name, spent in slowest:
        yield [name, f"{spent:.2f}", f"{spent / total:.0%}"]


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1f}"


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"
