"""pumpseg-data show: which photos are on the sheet, and where it is not written."""

import pytest

from pumpseg_train.cli.data import main


def test_the_sheet_of_named_files_and_of_one_split(fruit, tmp_path, capsys):
    out = tmp_path / "sheet.jpg"
    line = ["show", str(fruit), "--save", str(out)]
    assert main([*line, "--split", "val", "--names", "1.png", "0.png"]) == 0
    assert "2 of 2 photos" in capsys.readouterr().out
    assert main([*line, "--count", "1", "--split", "train"]) == 0
    assert "1 of 3 photos" in capsys.readouterr().out
    for wrong, message in (
        (["--split", "test"], "has no split test"),
        (["--names", "9.png"], "has no image 9.png"),
    ):
        assert main([*line, *wrong]) == 2
        assert message in capsys.readouterr().err
    assert main(["show", str(fruit), "--save", str(tmp_path / "sheet.txt")]) == 2
    assert "ends with .png or .jpg" in capsys.readouterr().err
    for option, value in (("--count", "0"), ("--columns", "0"), ("--side", "8")):
        with pytest.raises(SystemExit):
            main([*line, option, value])
        assert f"argument {option}: must be a whole number of at least" in capsys.readouterr().err


def test_the_sheet_does_not_take_the_place_of_a_photo(fruit, capsys):
    photo = next((fruit / "val" / "images").iterdir())
    before = photo.read_bytes()
    assert main(["show", str(fruit), "--save", str(photo)]) == 2
    assert "is an input" in capsys.readouterr().err
    assert photo.read_bytes() == before


def test_the_sheet_does_not_take_the_place_of_a_photo_of_another_split(fruit, capsys):
    photo = next((fruit / "val" / "images").iterdir())
    assert main(["show", str(fruit), "--split", "train", "--save", str(photo)]) == 2
    assert "is an input" in capsys.readouterr().err


def test_the_sheet_is_refused_before_it_is_drawn_where_it_cannot_be_written(fruit, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("pumpseg_train.dataset.contact_sheet.contact_sheet", None)
    assert main(["show", str(fruit), "--save", str(tmp_path / "none" / "sheet.png")]) == 2
    assert "sheet.png: No such file" in capsys.readouterr().err
