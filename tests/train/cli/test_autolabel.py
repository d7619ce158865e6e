"""pumpseg-data pseudo-label and label-on-white: what they write, and one line for what is wrong."""

import json

import cv2
import numpy as np
import pytest

from pumpseg_train.cli.data import main
from pumpseg_train.dataset.annotations import read_dataset


def test_label_on_white_writes_a_data_set_without_what_was_rejected(tmp_path, capsys, on_white):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, ellipse in enumerate([(60, 100, 40, 50), (120, 90, 50, 40), (130, 100, 60, 60)]):
        cv2.imwrite(str(photos / f"{number}.png"), on_white(ellipse)[0])
    cv2.imwrite(str(photos / "empty.png"), np.full((50, 50, 3), 250, np.uint8))
    reject = tmp_path / "reject.txt"
    reject.write_text("1.png\n", encoding="utf-8-sig")  # as Windows' editor saves it
    command = ["label-on-white", str(photos), "--class", "pumpkin", "--out", str(tmp_path / "out")]
    assert main([*command, "--reject", str(reject)]) == 0
    assert "2 of 3 photos, 2 instances" in capsys.readouterr().out
    dataset = read_dataset(tmp_path / "out", "train")
    assert dataset.classes == ("pumpkin",)
    assert [photo.path.name for photo in dataset.photos] == ["0.png", "2.png"]


@pytest.mark.parametrize("command", [["label-on-white", "{}", "--class", "a"], ["pseudo-label", "{}.onnx", "{}"]])
def test_a_folder_that_is_not_empty_is_told_before_anything_is_labelled(command, grey_photo, tmp_path, capsys):
    line = [word.format(grey_photo.parent) for word in command]
    assert main([*line, "--out", str(grey_photo.parent)]) == 2
    assert "is not an empty folder" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main([*line, "--out", str(tmp_path / "file" / "out")]) == 2
    assert f"cannot write {tmp_path / 'file' / 'out'}" in capsys.readouterr().err


def test_nothing_labelled_leaves_no_folder(grey_photo, tmp_path, capsys):
    line = ["label-on-white", str(grey_photo.parent), "--class", "a", "--out", str(tmp_path / "out")]
    assert main(line) == 2
    assert "nothing could be labelled in 1 photo of" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [grey_photo]


def test_pseudo_label_runs_a_model_file(tiny_onnx, fruit, tmp_path, capsys):
    command = ["pseudo-label", str(tiny_onnx), str(fruit / "train" / "images"), "--out", str(tmp_path / "out")]
    code = main([*command, "--threshold", "0", "--max-detections", "100"])
    out, error = capsys.readouterr()
    if code:  # the tiny model has seen four batches, and may find nothing at all
        assert "nothing could be labelled" in error
    else:
        assert f"wrote {tmp_path / 'out'}" in out
        content = json.loads((tmp_path / "out" / "train" / "annotations.json").read_text())
        assert {annotation["iscrowd"] for annotation in content["annotations"]} == {0, 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--reject", "nowhere.txt"], "--reject nowhere.txt: cannot read nowhere.txt: No such file"),
        (["--reject", "{names}"], "has no photo ghost.png"),
        (["--reject", "{latin}"], "'utf-8' codec can't decode"),
    ],
)
def test_a_wrong_list_of_rejects_is_told(options, message, grey_photo, tmp_path, capsys):
    names = tmp_path / "names.txt"
    names.write_text("ghost.png\n")
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"caf\xe9.png\n")
    options = [option.format(names=names, latin=latin) for option in options]
    command = ["label-on-white", str(grey_photo.parent), "--class", "pumpkin", "--out", str(tmp_path / "out"), *options]
    assert main(command) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--threshold=2", "--max-detections=0", "--solidity=-1"])
def test_impossible_thresholds_are_refused(option, grey_photo, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["pseudo-label", "fast", str(grey_photo.parent), "--out", str(tmp_path / "out"), option])
    assert f"argument {option.split('=')[0]}: must be" in capsys.readouterr().err
