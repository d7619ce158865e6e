import dataclasses

import jsonschema

from pumpseg_bench.report import as_json, json_schema


def test_the_json_fits_its_schema(bench_report):
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    values = as_json(bench_report)
    jsonschema.validate(values, schema)
    assert values["against"] is None
    assert [row["frames"] for row in values["rows"]] == [30, 30, 0]
    assert values["rows"][2]["latency"] is None


def test_a_comparison_fits_the_schema(compared_report):
    values = as_json(compared_report)
    jsonschema.validate(values, json_schema())
    assert values["against"]["rows"][0]["ratio"] == 0.5


def test_a_label_names_model_provider_threads_and_batch(bench_report):
    assert [row.label for row in bench_report.rows] == [
        "fast, cpu, 1 thread",
        "fast, cuda, 2 threads",
        "fast, openvino, 1 thread, 4 at once",
    ]


def test_problems_are_what_must_not_be_trusted(bench_report):
    row, *others = bench_report.rows
    disagreeing = dataclasses.replace(
        row, agreement=dataclasses.replace(row.agreement, matched=0.5, mask_iou=None, agrees=False)
    )
    report = dataclasses.replace(bench_report, rows=(row, *others, disagreeing))
    assert report.problems() == [
        "fast, cuda, 2 threads: has fallen back: none of its nodes ran on cuda (300 on cpu)",
        "fast, openvino, 1 thread, 4 at once: failed: its process ended with code 139",
        "fast, cpu, 1 thread: disagrees with itself on cpu: 50% of the instances match",
    ]
    assert [row.wrong for row in report.rows] == [False, True, False, True]


def test_a_machine_is_noisy_when_others_use_more_than_a_tenth_of_it(bench_report):
    assert not bench_report.noisy
    assert dataclasses.replace(bench_report, other_cores=0.5).noisy
