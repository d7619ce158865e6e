"""The report on a terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pumpseg_bench import format as wording
from pumpseg_bench.report import Report

OPERATORS_SHOWN = 8


def show(report: Report, console: Console, *, operators: bool = False) -> None:
    """Print a report; with `operators` also the time of every row by operator type."""
    for line in wording.headline(report):
        console.print(line, markup=False, highlight=False)
    if report.rows:
        console.print(_speed(report))
        console.print(_stages(report))
        console.print(_trust(report))
    if operators:
        for row in report.rows:
            if row.operators:
                console.print(_operators(row.label, row.operators))
    if report.absent:
        console.print(_absent(report))
    for line in wording.notes(report):
        console.print(f"- {line}", markup=False, highlight=False)
    for line in wording.warnings(report):
        console.print(Text(f"! {line}", "bold red"))


def _table(title: str, *columns: str, left: int = 1) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < left else "right", overflow="fold")
    return table


def _speed(report: Report) -> Table:
    table = _table("speed (latency in ms)", *wording.SPEED)
    for row in report.rows:
        table.add_row(*wording.speed(row))
    return table


def _stages(report: Report) -> Table:
    table = _table("where a frame's time goes (median ms)", *wording.STAGE_COLUMNS)
    for row in report.rows:
        table.add_row(*wording.stages(row))
    return table


def _trust(report: Report) -> Table:
    table = _table("what really ran, and whether it is right", *wording.TRUST, left=2)
    for row in report.rows:
        wrong = row.fallen_back or (row.agreement is not None and not row.agreement.agrees)
        table.add_row(*wording.trust(row), style="bold red" if wrong else "")
    return table


def _operators(label: str, operators: dict[str, float]) -> Table:
    table = _table(f"operators of {label}", "operator", "ms a frame", "share")
    for cells in wording.operators(operators, OPERATORS_SHOWN):
        table.add_row(*cells)
    return table


def _absent(report: Report) -> Table:
    table = _table("not here", "provider", "why", "to install", left=3)
    for absent in report.absent:
        # The brackets of an extra are no markup.
        table.add_row(absent.provider, Text(absent.reason), Text(absent.install))
    return table
