"""Counts and sizes of a data set."""

import json

import pytest

from pumpseg_train.cli.data import main
from pumpseg_train.dataset.annotations import read_splits
from pumpseg_train.dataset.stats import statistics


def test_statistics(flat, tmp_path, capsys):
    out = tmp_path / "stats.json"
    assert main(["stats", str(flat), "--json", str(out)]) == 0
    figures = json.loads(out.read_text())["in"]
    assert figures == statistics(read_splits(flat), "in")
    assert (figures["images"], figures["instances"], figures["crowd regions"]) == (40, 66, 13)
    assert figures["classes"] == {"rare": 6, "common": 60}
    assert figures["sizes"] == {"small": 66, "medium": 0, "large": 0}
    assert figures["width"] == {"min": 120, "median": 120, "mean": 120, "max": 120}
    assert figures["instances an image"] == {"min": 1, "median": 2, "mean": 1.65, "max": 2}
    assert figures["share of the image"]["median"] == pytest.approx(64 / 120 / 90, abs=1e-4)
    assert "rare 6  common 60" in capsys.readouterr().out


def test_statistics_of_a_broken_set_point_to_check(flat, capsys):
    content = json.loads((flat / "annotations.json").read_text())
    content["annotations"][3]["segmentation"] = {"size": [90, 120]}
    (flat / "annotations.json").write_text(json.dumps(content))
    assert main(["stats", str(flat)]) == 2
    assert "annotation 3 cannot be read" in capsys.readouterr().err
