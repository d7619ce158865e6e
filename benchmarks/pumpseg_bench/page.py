"""The report as one self-contained HTML page: plots are embedded images, and there is no script."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from pumpseg_bench import format as text_of
from pumpseg_bench.report import STAGES, BenchReport, Row

# Distinguishable with any colour vision (Okabe and Ito 2008).
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9")
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1c; background: #fff; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; white-space: nowrap; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #ddd; }
th { border-bottom: 2px solid #888; font-weight: 600; }
.left { text-align: left; } .wrap { white-space: normal; }
.warning { background: #fdecea; border-left: 4px solid #b3261e; padding: .4rem .8rem; margin: .4rem 0; }
img { max-width: 100%; height: auto; }
"""


def page(report: BenchReport) -> str:
    """The page, HTML 5 as text."""
    parts = [
        "<h1>pumpseg-bench</h1>",
        "<p>" + "<br>".join(escape(line) for line in text_of.headline(report)) + "</p>",
        *(f'<p class="warning">{escape(line)}</p>' for line in text_of.warnings(report)),
    ]
    if report.rows:
        measured = [row for row in report.rows if row.latency is not None]
        parts += _section(text_of.speed(report))
        if measured:
            parts += [
                _image(_latencies(measured), "Latency of every frame, and the median of each row"),
                "<h2>Frames per second</h2>",
                _image(_fps(measured), "Frames per second of each row"),
            ]
        parts += _section(text_of.stages(report))
        if measured:
            parts.append(_image(_stages(measured), "Median milliseconds of each stage, by row"))
        parts += _section(text_of.trust(report))
        for section in (text_of.operators(row) for row in report.rows if row.operators):
            parts.append(f"<details><summary>{escape(section.title)}</summary>{_table(section)}</details>")
    if report.against is not None and report.against.rows:
        parts += _section(text_of.against(report.against))
    if report.unavailable:
        parts += _section(text_of.unavailable(report))
    parts.append("<h2>How to read this</h2><ul>")
    parts += [f"<li>{escape(line)}</li>" for line in text_of.notes(report)]
    parts.append("</ul>")
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>pumpseg-bench</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _section(section: text_of.Section) -> list[str]:
    return [f"<h2>{escape(section.title)}</h2>", _table(section)]


def _table(section: text_of.Section) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        columns = []
        for number, cell in enumerate(cells):
            attribute = f' class="left{" wrap" * (section.left == 3)}"' if number < section.left else ""
            columns.append(f"<{tag}{attribute}>{escape(cell)}</{tag}>")
        return f"<tr>{''.join(columns)}</tr>"

    head, body = line(section.columns, "th"), "\n".join(line(row, "td") for row in section.rows)
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>\n{body}\n</tbody></table></div>'


def _latencies(rows: Sequence[Row]) -> Figure:
    """A dot for each frame, which shows outliers and two speeds, and a bar for the interval of the median."""
    figure, axes = _axes(rows)
    rng = np.random.default_rng(0)
    for position, row in enumerate(rows):
        samples = np.concatenate([np.asarray(samples) for samples in row.rounds])
        colour = _COLOURS[position % len(_COLOURS)]
        axes.scatter(samples, position + rng.uniform(-0.28, 0.28, len(samples)), s=7, alpha=0.45, color=colour, lw=0)
        assert row.latency is not None
        axes.plot([row.latency.p50] * 2, [position - 0.38, position + 0.38], color="#1c1c1c", lw=1.6)
        axes.fill_betweenx(
            [position - 0.38, position + 0.38], *row.latency.p50_interval, color="#1c1c1c", alpha=0.25, lw=0
        )
    axes.set_xlabel("ms a frame; line: median, shade: its 95% interval")
    axes.set_xlim(left=0)
    return figure


def _fps(rows: Sequence[Row]) -> Figure:
    figure, axes = _axes(rows)
    for position, row in enumerate(rows):
        if row.fps is None:
            axes.text(0, position, " too few frames", va="center")
            continue
        bar = axes.barh(position, row.fps, height=0.6, color=_COLOURS[position % len(_COLOURS)])
        axes.bar_label(bar, fmt="%.1f", padding=4)
    axes.set_xlabel("frames per second")
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    return figure


def _stages(rows: Sequence[Row]) -> Figure:
    figure, axes = _axes(rows, legend=True)
    for position, row in enumerate(rows):
        left = 0.0
        for number, stage in enumerate(STAGES):
            width = row.stages[stage]
            axes.barh(
                position, width, left=left, height=0.6, color=_COLOURS[number], label=stage if not position else None
            )
            left += width
    axes.set_xlabel("ms")
    axes.legend(ncols=len(STAGES), loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
    return figure


def _axes(rows: Sequence[Row], *, legend: bool = False) -> tuple[Figure, Any]:
    figure = Figure(figsize=(8.5, 0.9 + 0.45 * len(rows) + 0.3 * legend), layout="constrained")
    axes = figure.subplots()
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _image(figure: Figure, description: str) -> str:
    buffer = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "pumpseg"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<p><img src="data:image/svg+xml;base64,{encoded}" alt="{escape(description)}"></p>'
