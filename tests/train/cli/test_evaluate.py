"""pumpseg-eval: its table and JSON, and one line for what is wrong."""

import json
import re

import cv2
import numpy as np
import pytest

from pumpseg.instances import Instances
from pumpseg_train.cli import evaluate as eval_command
from pumpseg_train.cli.model import LoadedModel


def test_eval_prints_the_table_and_writes_json(tiny_onnx, fruit, tmp_path, capsys):
    negatives = tmp_path / "negatives"
    negatives.mkdir()
    for number in range(2):
        cv2.imwrite(str(negatives / f"{number}.png"), np.full((80, 100, 3), 200, np.uint8))
    target = tmp_path / "figures.json"
    command = [str(tiny_onnx), str(fruit), "--negatives", str(negatives), "--json", str(target), "--threads", "1"]
    assert eval_command.main(command) == 0

    head, names, box, mask, alarms, columns, *points = capsys.readouterr().out.splitlines()
    assert "at 96x96 on 2 photos" in head
    assert names.split() == ["ap", "ap50", "ap75", "small", "medium", "large"]
    assert box.split()[0] == "box"
    assert mask.split()[0] == "mask"
    assert re.fullmatch(r"false alarms at threshold 0\.5: \d of 2 negative photos, [\d.]+ in 100", alarms)

    assert columns.split() == ["threshold", "recall", "precision", "alarms"]
    assert [point.split()[0] for point in points] == ["threshold", "1", "3", "10"]

    figures = json.loads(target.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert float(box.split()[2]) == pytest.approx(figures["box"]["ap50"], abs=5e-4)
    assert box.split()[-1] == "nan"
    assert figures["mask"]["large"] is None
    assert figures["classes"]["pumpkin"]["mask_ap"] == pytest.approx(figures["mask"]["ap"])
    assert figures["false_alarms"]["photos"] == 2
    assert set(figures["operating_points"]) == {"threshold", "1 in 100", "3 in 100", "10 in 100"}
    assert len(figures["curve"]) == 100 and len(figures["reliability"]) <= 10
    assert all(photo.endswith(".png") and score >= 0.5 for photo, score in figures["false_alarms"]["alarms"])


def test_eval_takes_a_training_run_and_draws_a_report(tiny_run, fruit, tmp_path, capsys, step_by_step):
    assert (
        eval_command.main([str(tiny_run), str(fruit), "--report", str(tmp_path / "report"), "--threshold", "0.3"]) == 0
    )
    out = capsys.readouterr().out
    assert "at 96x96 on 2 photos" in out
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [
        "confusion.png",
        "photos.csv",
        "precision_recall.png",
        "reliability.png",
        "worst.jpg",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--split", "test"], "test/annotations.json does not exist"),
        (["--negatives", "nowhere"], "nowhere holds no images"),
        (["--provider", "abacus"], "abacus"),
        (["--json", "nowhere/figures.json"], "nowhere/figures.json"),
    ],
)
def test_eval_reports_what_is_wrong_in_one_line(options, message, tiny_onnx, fruit, one_line):
    assert eval_command.main([str(tiny_onnx), str(fruit), *options]) == 2
    assert message in one_line("pumpseg-eval")


def test_eval_writes_over_nothing_that_it_reads(tiny_onnx, fruit, one_line):
    for path in (tiny_onnx, fruit / "val" / "annotations.json"):
        before = path.read_bytes()
        assert eval_command.main([str(tiny_onnx), str(fruit), "--json", str(path)]) == 2
        assert "is an input" in one_line("pumpseg-eval")
        assert path.read_bytes() == before


def test_eval_names_a_missing_model_and_a_file_that_is_none(fruit, tmp_path, one_line):
    assert eval_command.main([str(tmp_path / "nowhere.onnx"), str(fruit)]) == 2
    assert "nowhere.onnx" in one_line("pumpseg-eval")
    (tmp_path / "text.onnx").write_text("no model")
    assert eval_command.main([str(tmp_path / "text.onnx"), str(fruit)]) == 2
    assert "text.onnx" in one_line("pumpseg-eval")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bogus"], "unrecognized arguments: --bogus"),
        (["--threads", "0"], "--threads: must be a whole number from 1 to 1024"),
        (["--tiles", "17"], "--tiles: must be a whole number from 1 to 16"),
        (["--threshold", "2"], "--threshold: must be a number from 0 to 1, got 2"),
    ],
)
def test_a_wrong_option_is_one_line(options, message, one_line):
    with pytest.raises(SystemExit) as stop:
        eval_command.main(["fast", "data", *options])
    assert stop.value.code == 2
    assert message in one_line("pumpseg-eval")


def test_several_classes_have_a_line_each(tmp_path, make_split, monkeypatch, capsys):
    classes = ("apple", "pumpkin")
    make_split(tmp_path / "val", [[(0, (60, 60, 40, 35))], [(1, (60, 60, 40, 35))]], classes=classes)

    def nothing(frame):
        return Instances.empty(frame.shape[:2], classes)

    monkeypatch.setattr(eval_command, "load_model", lambda *_: LoadedModel(nothing, (96, 96)))
    assert eval_command.main(["fast", str(tmp_path)]) == 0
    head, apple, pumpkin = capsys.readouterr().out.splitlines()[-5:-2]  # before the operating point
    assert head.split() == ["box", "ap", "ap50", "mask", "ap", "ap50"]
    assert apple.split() == ["apple", *["0.000"] * 4]
    assert pumpkin.split() == ["pumpkin", *["0.000"] * 4]
