import io

import pytest
from rich.console import Console

from pumpseg_bench.table import show


@pytest.fixture
def shown(bench_report):
    def show_it(**options):
        console = Console(file=io.StringIO(), width=160)
        show(bench_report, console, **options)
        return console.file.getvalue()

    return show_it


def test_the_terminal_shows_every_section(shown):
    text = shown()
    for wanted in (
        "Some CPU",
        "Speed (latency in ms)",
        "Stages of a frame",
        "What ran",
        "Not available",
        "- rows took",
    ):
        assert wanted in text
    assert 'pip install "pumpseg[gpu]"' in text, "the brackets of an extra are not markup"
    assert "! fast, cuda, 2 threads: has fallen back" in text
    assert "Operators" not in text


def test_operators_on_request(shown):
    text = shown(operators=True)
    assert "Operators of fast" in text
    assert text.count("Operators of") == 1, "the other rows were not profiled"


def test_an_earlier_report_is_a_table_of_its_own(compared_report, shown):
    console = Console(file=io.StringIO(), width=200)
    show(compared_report, console)
    text = console.file.getvalue()
    assert "Against earlier.json (Some CPU" in text
    assert "! earlier.json: measured there only: fast, cpu, 8 threads" in text
    assert "Against" not in shown()
