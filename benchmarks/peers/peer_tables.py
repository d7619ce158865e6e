"""The tables of a comparison, made from its JSON.

python benchmarks/peers/peer_tables.py benchmarks/peers/build/peers.json    # writes them into benchmarks/README.md
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pumpseg.atomic_file import write_text
from pumpseg.errors import PumpsegError
from pumpseg_bench.latency import CONFIDENCE, median_interval

README = Path(__file__).resolve().parents[1] / "README.md"
OURS = "pumpseg "
_RESAMPLES = 2000
_COLUMNS = (
    "what",
    "runtime",
    "input",
    "whole frame, ms (95% interval)",
    "network alone, ms",
    "times pumpseg's",
    "instances",
)


def ratio_interval(rows: Sequence[Sequence[float]], base: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Ratio of the medians of two rows that took turns, and its confidence interval: rounds are drawn in pairs."""
    rng = np.random.default_rng(0)
    ours, theirs = np.array(rows), np.array(base)
    drawn = rng.integers(len(ours), size=(_RESAMPLES, len(ours)))
    ratios = np.median(ours[drawn].reshape(_RESAMPLES, -1), 1) / np.median(theirs[drawn].reshape(_RESAMPLES, -1), 1)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(ratios, [tail, 100 - tail])
    return float(np.median(ours) / np.median(theirs)), float(low), float(high)


def section_of(values: dict[str, Any]) -> str:
    """Machine, frames and both tables in Markdown, from the JSON of compare.py.

    A row is compared with pumpseg's of the same precision, threads and runtime; one that is faster stays as it is.
    """
    rows = [row for row in values["rows"] if not row["failure"]]
    side = min(row["side"] for row in rows if row["name"].startswith(OURS))
    lines = [_preamble(values), "", "Each at an input size that its makers recommend:", ""]
    ours = [row for row in rows if row["name"].startswith(OURS)]
    native = {row["name"]: _native(row["name"], rows) for row in rows}
    lines += _table([row for row in rows if row["side"] == native[row["name"]]], ours)
    lines += ["", f"All at {side}x{side}:", ""]
    lines += _table([row for row in rows if row["side"] == side], ours)
    failed = [row for row in values["rows"] if row["failure"]]
    if failed:
        lines += ["", "These did not run:", ""]
        lines += [f"- {_what(row)}, {row['engine']}, at {row['side']}: {row['failure']}" for row in failed]
    cores = values["machine"]["cores"]
    if values["other_cores"] > 0.1 * cores:
        lines += ["", f"**The machine was busy: other processes used {values['other_cores']:.1f} of {cores} cores.**"]
    return "\n".join(lines)


def _native(name: str, rows: Sequence[dict[str, Any]]) -> int:
    """RF-DETR-Seg-N's own input is smaller than ours, that of the others larger."""
    sides = {row["side"] for row in rows if row["name"] == name}
    return min(sides) if name.startswith("rf-detr") else max(sides)


def _preamble(values: dict[str, Any]) -> str:
    machine, frames = values["machine"], values["frames"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    first = values["rows"][0]["latency"]
    shown = "" if values["instances"] is None else f", {values['instances']} instances in view in each"
    return (
        f"{values['created']}, {machine['processor']}, {machine['cores']} cores, {machine['system']}; {versions}; "
        f"{'; '.join(values['peers'])}. Frames of {frames['width']}x{frames['height']} from {values['source']}{shown}: "
        f"{frames['count']}; {sum(map(len, first))} measured of each row."
    )


def _table(rows: Sequence[dict[str, Any]], ours: Sequence[dict[str, Any]]) -> list[str]:
    columns = ("threads", "precision", *_COLUMNS)
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for threads in sorted({row["threads"] for row in rows}):
        for precision in ("float32", "int8"):
            group = [row for row in rows if (row["threads"], row["precision"]) == (threads, precision)]
            for row in group:
                base = next(
                    one for one in ours if all(one[key] == row[key] for key in ("threads", "precision", "engine"))
                )
                lines.append(f"| {threads} | {precision} | {_cells(row, base)} |")
    return lines


def _cells(row: dict[str, Any], base: dict[str, Any]) -> str:
    low, high = median_interval(row["latency"])
    ratio, ratio_low, ratio_high = ratio_interval(row["latency"], base["latency"])
    cells = [
        *(row["name"], row["engine"], str(row["side"])),
        f"{np.median(np.concatenate(row['latency'])):.1f} ({low:.1f}–{high:.1f})",
        f"{np.median(np.concatenate(row['session'])):.1f}",
        "1" if row is base else f"{ratio:.2f} ({ratio_low:.2f}–{ratio_high:.2f})",
        f"{row['instances']:.1f}",
    ]
    return " | ".join(cells)


def _what(row: dict[str, Any]) -> str:
    return f"{row['name']} in {row['precision']}"


def insert(text: str, section: str, name: str) -> str:
    """The README with the section between the markers of `name` replaced.

    Raises PumpsegError without them.
    """
    begin, end = f"<!-- {name}: made by peers/run.py -->", f"<!-- end of {name} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise PumpsegError(f"{README.name} must hold {begin!r} and {end!r} once each")
    return f"{text[: text.index(begin) + len(begin)]}\n\n{section}\n\n{text[text.index(end) :]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=Path, help="what run.py wrote")
    parser.add_argument("--readme", type=Path, default=README, help="where the tables go")
    arguments = parser.parse_args()
    section = section_of(json.loads(arguments.json.read_text(encoding="utf-8")))
    try:
        write_text(arguments.readme, insert(arguments.readme.read_text(encoding="utf-8"), section, "peers"))
    except PumpsegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(section)
    return 0


if __name__ == "__main__":
    sys.exit(main())
