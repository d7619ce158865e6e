"""Progress is silent by default, a bar on a terminal, and a line now and then elsewhere."""

import sys

from pumpseg_train import progress
from pumpseg_train.progress import Progress, StderrProgress


def test_the_default_reports_nothing(capsys):
    report = Progress()
    report.note("something")
    with report.stage("reading", 3, "images") as advance:
        advance(3)
    assert capsys.readouterr() == ("", "")


def test_lines_where_there_is_no_terminal(capsys, monkeypatch):
    clock = iter(range(0, 100, 6))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with StderrProgress().stage("reading", 5, "images", start=1) as advance:
        for _ in range(4):
            advance(1)
    assert capsys.readouterr().err.splitlines() == [
        "reading: 3 of 5 images, 00:12 left",
        "reading: 5 of 5 images, 00:00 left",
    ]


def test_bytes_are_megabytes(capsys, monkeypatch):
    clock = iter(range(0, 100, 20))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with StderrProgress().stage("table.csv", None, "B") as advance:
        advance(2_500_000)
    assert capsys.readouterr().err == "table.csv: 2.5 MB\n"


def test_a_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with StderrProgress().stage("reading", 2, "images") as advance:
        advance(2)
    assert "reading:   0%" in capsys.readouterr().err
