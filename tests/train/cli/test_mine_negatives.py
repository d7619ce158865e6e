"""Keeping the photos that mislead a model."""

import csv

import cv2
import numpy as np
import pytest

from pumpseg_train.cli import data
from pumpseg_train.cli import model as model_module
from pumpseg_train.cli.mine_negatives import ALARMS
from pumpseg_train.cli.model import LoadedModel


class _Found:
    def __init__(self, scores):
        self.scores = np.array(scores)


@pytest.fixture
def photos(tmp_path):
    """A dark, a grey and a white photo."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, value in (("dark", 10), ("grey", 100), ("white", 250)):
        cv2.imwrite(str(folder / f"{name}.png"), np.full((8, 8, 3), value, np.uint8))
    return folder


@pytest.fixture
def bright_is_an_object(monkeypatch):
    """A model that is as sure of an object as its photo is bright."""
    loaded = LoadedModel(lambda frame: _Found([frame.mean() / 255]), (8, 8))
    monkeypatch.setattr(model_module, "load_model", lambda name: loaded)


def test_photos_with_an_alarm_are_kept_with_their_scores(photos, tmp_path, bright_is_an_object, capsys):
    assert data.main(["mine-negatives", "fast", str(photos), "--out", str(tmp_path / "hard")]) == 0
    assert sorted(path.name for path in (tmp_path / "hard").rglob("*.*")) == [ALARMS, "grey.png", "white.png"]
    with (tmp_path / "hard" / ALARMS).open() as file:
        assert list(csv.DictReader(file)) == [
            {"photo": "white.png", "score": "0.980"},
            {"photo": "grey.png", "score": "0.392"},
        ]
    assert "2 of 3 photos" in capsys.readouterr().out


def test_photos_of_one_name_in_two_folders_are_both_kept(photos, tmp_path, bright_is_an_object):
    more = tmp_path / "more"
    more.mkdir()
    cv2.imwrite(str(more / "white.png"), np.full((8, 8, 3), 240, np.uint8))
    out = tmp_path / "hard"
    assert data.main(["mine-negatives", "fast", str(photos), str(more), "--threshold", "0.5", "--out", str(out)]) == 0
    assert {path.name for path in (out / "images").iterdir()} == {"white.png", "white-2.png"}


def test_a_model_without_alarms_leaves_nothing_behind(photos, tmp_path, bright_is_an_object, capsys):
    out = tmp_path / "hard"
    assert data.main(["mine-negatives", "fast", str(photos), "--threshold", "1", "--out", str(out)]) == 2
    assert not out.exists()
    assert "no false alarm at 1 in 3 photos" in capsys.readouterr().err
