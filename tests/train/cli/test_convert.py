"""pumpseg-data convert: what it prints, and options that cannot be."""

import pytest

from pumpseg_train.cli.data import main

LARGE, MIDDLE = (60, 60, 40, 35), (120, 70, 25, 28)


def test_notes_come_before_the_counts_of_each_split(tmp_path, make_split, capsys):
    make_split(tmp_path / "in" / "train", [[(0, LARGE), (0, MIDDLE)], []])
    (tmp_path / "in" / "val").mkdir()
    assert main(["convert", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"note: {tmp_path / 'in' / 'val'} holds no COCO json and was left out",
        "train: 2 images, 2 instances, 0 crowd regions",
        f"wrote {tmp_path / 'out'}",
    ]


@pytest.mark.parametrize("renamed", ["apple", "=pear", "apple="])
def test_a_new_name_needs_an_old_one(fruit, tmp_path, renamed, capsys):
    assert main(["convert", str(fruit), "--out", str(tmp_path / "out"), "--rename", renamed]) == 2
    assert f"--rename {renamed}: OLD=NEW is needed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_masks_that_are_regions_to_ignore_are_a_warning_and_may_be_instances(tmp_path, make_split, edit_json, capsys):
    folder = make_split(tmp_path / "in", [[(0, LARGE), (0, MIDDLE)]])
    edit_json(folder, lambda content: [annotation.update(iscrowd=1) for annotation in content["annotations"]])
    assert main(["convert", str(folder), "--out", str(tmp_path / "a")]) == 0
    assert "warning: 2 of 2 masks are regions that training ignores (iscrowd)" in capsys.readouterr().out
    assert main(["convert", str(folder), "--out", str(tmp_path / "b"), "--crowds-as-instances"]) == 0
    assert capsys.readouterr().out.startswith("train: 1 image, 2 instances, 0 crowd regions\n")


def test_masks_that_convert_wrote_need_no_classes(fruit, tmp_path, capsys):
    assert main(["convert", str(fruit), "--to", "masks", "--out", str(tmp_path / "masks")]) == 0
    assert main(["convert", str(tmp_path / "masks"), "--from", "masks", "--out", str(tmp_path / "back")]) == 0
    assert "train: 3 images, 4 instances" in capsys.readouterr().out
