"""Sheets of pictures with what was detected drawn in."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from pumpseg.errors import PumpsegError
from pumpseg.instances import Instances
from pumpseg_train.evaluation.prediction_sheet import PredictionSheet, tile, write_sheet


def test_the_first_frames_are_kept_and_the_predictions_passed_on(tmp_path):
    seen = []

    def predict(frame):
        seen.append(int(frame[0, 0, 0]))
        return Instances.empty(frame.shape[:2], ("pumpkin",))

    sheet = PredictionSheet(predict, limit=3)
    for value in (50, 100, 150, 200):
        assert sheet(np.full((80, 160, 3), value, np.uint8)).class_names == ("pumpkin",)
    assert seen == [50, 100, 150, 200]
    sheet.save(tmp_path / "pictures" / "sheet.png")
    picture = cv2.imread(str(tmp_path / "pictures" / "sheet.png"))
    assert picture.shape == (320, 4 * 320, 3)
    assert [int(picture[80, 320 * column + 160, 0]) for column in range(4)] == [50, 100, 150, 64]


def test_a_tile_keeps_the_proportions():
    square = tile(np.full((50, 100, 3), 255, np.uint8), side=40)
    assert square.shape == (40, 40, 3)
    assert (square[:20] == 255).all() and (square[20:] == 64).all()


def test_a_sheet_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PumpsegError, match=r"cannot write .*sheet\.png"):
        write_sheet(tmp_path / "file" / "sheet.png", [np.zeros((4, 4, 3), np.uint8)])


def test_a_sheet_on_a_full_disk_is_not_there(tmp_path, monkeypatch):
    def half(path, data):
        path.open("wb").write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(PumpsegError, match=r"cannot write .*sheet\.jpg: No space left on device"):
        write_sheet(tmp_path / "sheet.jpg", [np.zeros((8, 8, 3), np.uint8)])
    assert list(tmp_path.iterdir()) == []
