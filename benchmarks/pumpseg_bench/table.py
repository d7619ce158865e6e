"""The report on a terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pumpseg_bench import format as text_of
from pumpseg_bench.report import BenchReport


def show(report: BenchReport, console: Console, *, operators: bool = False) -> None:
    """Print a report; with `operators` also the time of every row by operator type."""
    for line in text_of.headline(report):
        console.print(line, markup=False, highlight=False)
    sections = [text_of.speed(report), text_of.stages(report), text_of.trust(report)] if report.rows else []
    if operators:
        sections += [text_of.operators(row) for row in report.rows if row.operators]
    if report.against is not None and report.against.rows:
        sections.append(text_of.against(report.against))
    if report.unavailable:
        sections.append(text_of.unavailable(report))
    for section in sections:
        console.print(_table(section))
    for line in text_of.notes(report):
        console.print(f"- {line}", markup=False, highlight=False)
    for line in text_of.warnings(report):
        console.print(Text(f"! {line}", "bold red"))


def _table(section: text_of.Section) -> Table:
    table = Table(title=section.title, box=SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for number, column in enumerate(section.columns):
        table.add_column(column, justify="left" if number < section.left else "right", overflow="fold")
    for number, cells in enumerate(section.rows):
        # As Text: the brackets of an extra, "pumpseg[gpu]", are not markup.
        table.add_row(*map(Text, cells), style="bold red" if number in section.wrong else "")
    return table
