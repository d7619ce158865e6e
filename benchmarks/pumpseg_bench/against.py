"""A report next to an earlier one: of another machine, or of another version on the same machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pumpseg.errors import OptionError, first_line, printable
from pumpseg_bench.json_schema import from_json
from pumpseg_bench.latency import ratio_interval
from pumpseg_bench.report import DEVICES, FORMAT, BenchReport, ComparedRow, Comparison, Row

# Format 2 lacked `against` only.
_FORMATS = (2, FORMAT)


def read_report(path: Path) -> BenchReport:
    """The report that `pumpseg-bench --json` wrote to a file.

    Raises OptionError if it cannot be read, is something else, or is of a version that measured differently.
    """
    try:
        values: Any = json.loads(path.read_bytes())
        if not isinstance(values, dict) or "format" not in values:
            raise ValueError("it has no format")
        if values["format"] not in _FORMATS:
            raise OptionError(
                f"{path} has the format {printable(str(values['format']))}, and this version reads "
                f"{' and '.join(map(str, _FORMATS))}: measure again with one version of pumpseg-bench"
            )
        # What it was itself compared with does not matter.
        report: BenchReport = from_json(BenchReport, {**values, "against": None})
        for row in report.rows:
            samples = [sample for samples in row.rounds for sample in samples]
            if row.latency and not (samples and row.cold_start and "session" in row.stages):
                raise ValueError(f"its row {row.label} lacks measurements")
            if min(samples, default=1.0) <= 0:
                raise ValueError(f"its row {row.label} has a latency that is not above 0")
    except OSError as error:
        raise OptionError(f"cannot read {path}: {error.strerror}") from None
    except OptionError:
        raise
    except (ValueError, RecursionError) as error:
        raise OptionError(f"{path} is not a report of pumpseg-bench --json: {first_line(error)}") from None
    return report


def compare_reports(here: BenchReport, there: BenchReport, file: str) -> Comparison:
    """Both reports' rows, paired by model, provider, threads and batch. file: the name of the earlier one.

    The number of threads does not count where a device computes.
    """
    earlier = {_key(row): row for row in there.rows if row.latency}
    later = {_key(row): row for row in here.rows if row.latency}
    rows = []
    for key, row in later.items():
        if key in earlier:
            other = earlier[key]
            ratio, *interval = ratio_interval(row.rounds, other.rounds)
            rows.append(
                ComparedRow(
                    row=row.label,
                    latency=(_median(other.rounds), _median(row.rounds)),
                    ratio=ratio,
                    ratio_interval=(interval[0], interval[1]),
                    session=(other.stages["session"], row.stages["session"]),
                    cold_start=(float(np.median(other.cold_start)), float(np.median(row.cold_start))),
                    peak_memory=(other.peak_memory, row.peak_memory),
                )
            )
    return Comparison(
        file=file,
        created=there.created,
        machine=there.machine,
        rows=tuple(rows),
        only_there=tuple(row.label for key, row in earlier.items() if key not in later),
        only_here=tuple(row.label for key, row in later.items() if key not in earlier),
        differences=tuple(_differences(here, there)),
        noisy=there.noisy,
    )


def _differences(here: BenchReport, there: BenchReport) -> Iterator[str]:
    for name in sorted({*here.machine.versions, *there.machine.versions}):
        versions = [report.machine.versions.get(name, "none") for report in (there, here)]
        if versions[0] != versions[1]:
            yield f"{name} {versions[0]} there, {versions[1]} here"
    frames = [
        f"{report.distinct_frames} of {report.frame_size[1]}x{report.frame_size[0]} from {report.source}"
        for report in (there, here)
    ]
    if frames[0] != frames[1]:
        yield f"frames: {frames[0]} there, {frames[1]} here"
    models = {model.name: model for model in there.models}
    for model in here.models:
        other = models.get(model.name, model)
        if (other.size, other.input_size) != (model.size, model.input_size):
            sizes = [f"{one.size} bytes, input {one.input_size[1]}x{one.input_size[0]}" for one in (other, model)]
            yield f"the file of {model.name}: {sizes[0]} there, {sizes[1]} here"


def _key(row: Row) -> tuple[Any, ...]:
    return row.model, row.provider, 0 if row.provider in DEVICES else row.threads, row.batch


def _median(rounds: tuple[tuple[float, ...], ...]) -> float:
    return float(np.median([sample for samples in rounds for sample in samples]))
