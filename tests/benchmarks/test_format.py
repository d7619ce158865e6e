import dataclasses

import pytest

from pumpseg_bench import format as text_of


def test_the_headline_names_machine_models_and_peaks(bench_report):
    assert text_of.headline(bench_report) == [
        "Some CPU, 4 cores, 16 GiB, Linux x86_64",
        "python 3.11.7",
        "30 frames of 640x480 from demo, 2026-01-02T03:04:05+00:00",
        "fast: edge, input 384x384, 8.4 MB, 3.20 GFLOP a frame",
        "peak of 1 thread: 120 GFLOP/s in float32, 400 GOP/s in int8",
    ]


@pytest.mark.parametrize("section", [text_of.speed, text_of.stages, text_of.trust, text_of.unavailable])
def test_every_row_has_a_cell_for_every_column(bench_report, section):
    table = section(bench_report)
    assert table.rows
    assert {len(cells) for cells in table.rows} == {len(table.columns)}


def test_speed_has_the_median_of_the_cold_starts_and_dashes_for_nothing(bench_report):
    measured, _, failed = text_of.speed(bench_report).rows
    assert measured[1:] == ["10.2", "10.1–10.3", "10.4", "–", "10.4", "95.0", "0.40 s", "12.0", "75%"]
    assert failed == ["fast, openvino, 1 thread, 4 at once", *["–"] * 6, "0.40 s", "12.0", "–"]


def test_stages_and_trust(bench_report):
    assert text_of.stages(bench_report).rows[0][1:] == [*["2.50"] * 5, "0.98", "200 MiB"]
    trust = text_of.trust(bench_report)
    assert trust.rows[0][1:] == ["300 cpu", "12", "100%", "0.985"]
    assert trust.rows[1][1] == "300 cpu (fallen back)"
    assert trust.rows[2][1:] == ["–"] * 4
    assert trust.wrong == {1}


def test_operators_end_with_the_sum_of_the_others(bench_report):
    rows = text_of.operators(bench_report.rows[0]).rows
    assert rows[0] == ["Conv", "8.00", "80%"]
    assert rows[-1] == ["4 others", "0.40", "4%"]
    assert len(rows) == text_of.OPERATORS_SHOWN + 1


def test_warnings(bench_report):
    assert text_of.warnings(bench_report) == bench_report.problems()
    few = [dataclasses.replace(row, fps=None, instances_per_frame=0.0) for row in bench_report.rows[:1]]
    report = dataclasses.replace(bench_report, rows=tuple(few), interrupted=True, other_cores=2.0)
    interrupted, too_few, busy, nothing = text_of.warnings(report)
    assert "interrupted" in interrupted
    assert "fewer than 30 frames" in too_few
    assert "2.0 of 4 cores" in busy
    assert "nothing was detected in demo" in nothing


def test_an_earlier_report_next_to_this_one(compared_report):
    section = text_of.against(compared_report.against)
    assert section.title == "Against earlier.json (Some CPU, 4 cores, Linux x86_64, 2026-01-02T03:04:05+00:00; ms)"
    (row,) = section.rows
    assert len(row) == len(section.columns)
    assert row[:4] == ["fast, cpu, 1 thread", "20.4", "10.2", "0.50"]
    assert row[5:] == ["2.5", "2.5", "0.40 s", "0.40 s", "200 MiB", "200 MiB"]
    assert text_of.notes(compared_report)[-1].startswith(
        "here / there: this run's p50 as a multiple of that in earlier"
    )
    assert text_of.warnings(compared_report)[-4:] == [
        "earlier.json: python 3.12.1 there, 3.11.7 here",
        "earlier.json: the machine was busy when earlier.json was measured",
        "earlier.json: measured there only: fast, cpu, 8 threads",
        "earlier.json: measured here only: fast, cuda, 2 threads",
    ]


def test_an_earlier_report_without_a_common_row(compared_report):
    against = dataclasses.replace(compared_report.against, rows=())
    last = text_of.warnings(dataclasses.replace(compared_report, against=against))[-1]
    assert last.startswith("earlier.json: no row is in both: measure the models, providers and threads")


def test_notes_name_the_reference(bench_report):
    assert text_of.notes(bench_report)[-1] == "matched, mask IoU: compared with itself on cpu"
