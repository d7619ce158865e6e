import dataclasses
import json

import pytest

from pumpseg.errors import OptionError
from pumpseg_bench.against import compare_reports, read_report
from pumpseg_bench.latency import latency_of
from pumpseg_bench.report import as_json


@pytest.fixture
def written(bench_report, tmp_path):
    """Writes a report with some of its JSON values changed; returns the file."""

    def write(**changes):
        path = tmp_path / "earlier.json"
        path.write_text(json.dumps(as_json(bench_report) | changes), encoding="utf-8")
        return path

    return write


def with_rounds(row, factor, **changes):
    rounds = tuple(tuple(factor * sample for sample in samples) for samples in row.rounds)
    return dataclasses.replace(row, rounds=rounds, latency=latency_of(rounds), **changes)


def test_a_report_is_read_as_it_was_written(bench_report, written):
    assert read_report(written()) == bench_report


def test_a_report_of_the_format_before_is_read(bench_report, written):
    path = written(format=2)
    values = json.loads(path.read_text(encoding="utf-8"))
    del values["against"]
    path.write_text(json.dumps(values), encoding="utf-8")
    assert read_report(path).rows == bench_report.rows


def test_what_a_report_was_compared_with_does_not_matter(bench_report, written):
    assert read_report(written(against={"file": 3})) == bench_report


def test_rows_are_paired_and_compared(bench_report):
    slower = [with_rounds(row, 2.0, threads=7 * row.threads) for row in bench_report.rows[1:2]]
    there = dataclasses.replace(
        bench_report, rows=(with_rounds(bench_report.rows[0], 2.0), *slower, *bench_report.rows[2:])
    )
    comparison = compare_reports(bench_report, there, "earlier.json")
    assert [row.row for row in comparison.rows] == ["fast, cpu, 1 thread", "fast, cuda, 2 threads"]
    for row in comparison.rows:
        assert row.ratio == pytest.approx(0.5)
        assert row.ratio_interval[0] <= 0.5 <= row.ratio_interval[1]
        assert row.latency == pytest.approx((20.4, 10.2))
    assert comparison.differences == ()
    assert comparison.only_there == comparison.only_here == (), "a row without figures is in neither"


def test_what_cannot_be_compared_is_named(bench_report):
    row = bench_report.rows[0]
    there = dataclasses.replace(
        bench_report,
        rows=(dataclasses.replace(row, threads=4),),
        machine=dataclasses.replace(bench_report.machine, versions={"python": "3.12.1", "openvino": "2026.1"}),
        frame_size=(720, 1280),
        models=(dataclasses.replace(bench_report.models[0], size=5_000_000),),
        other_cores=2.0,
    )
    comparison = compare_reports(bench_report, there, "earlier.json")
    assert comparison.rows == ()
    assert comparison.only_there == ("fast, cpu, 4 threads",)
    assert comparison.only_here == ("fast, cpu, 1 thread", "fast, cuda, 2 threads")
    assert comparison.noisy
    assert comparison.differences == (
        "openvino 2026.1 there, none here",
        "python 3.12.1 there, 3.11.7 here",
        "frames: 30 of 1280x720 from demo there, 30 of 640x480 from demo here",
        "the file of fast: 5000000 bytes, input 384x384 there, 8400000 bytes, input 384x384 here",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a report of pumpseg-bench --json: Expecting value"),
        ("[" * 100_000, "is not a report"),
        ("\udcff", "is not a report"),
        ("[]", "it has no format"),
        ('{"format": 1}', "has the format 1, and this version reads 2 and 3: measure again"),
        ('{"format": 3}', "created must be there"),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    path = tmp_path / "other.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(OptionError, match=message) as refusal:
        read_report(path)
    assert "\n" not in str(refusal.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(OptionError, match=r"cannot read .*none\.json: No such file"):
        read_report(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rounds": [[0.0]]}, "a latency that is not above 0"),
        ({"rounds": []}, "lacks measurements"),
        ({"stages": {}}, "lacks measurements"),
        ({"cold_start": []}, "lacks measurements"),
        ({"rounds": [[float("nan")]]}, r"rows\[0\].rounds\[0\]\[0\] must be a finite number"),
        ({"threads": "1"}, r"rows\[0\].threads must be of the type integer"),
    ],
)
def test_damaged_rows_are_refused(bench_report, written, change, message):
    rows = as_json(bench_report)["rows"]
    with pytest.raises(OptionError, match=message):
        read_report(written(rows=[rows[0] | change]))
