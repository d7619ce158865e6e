"""pumpseg-data open-images: numbers out of range."""

import pytest

from pumpseg_train.cli.data import main


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("--max-images", "0", "a whole number of at least 1"),
        ("--jobs", "0", "a whole number of at least 1"),
        ("--retries", "-1", "a whole number of at least 0"),
        ("--timeout", "0", "a number above 0"),
        ("--min-iou", "2", "a number from 0 to 1"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path, option, value, wanted, capsys):
    with pytest.raises(SystemExit):
        main(["open-images", "--classes", "Pumpkin", "--out", str(tmp_path), option, value])
    assert f"argument {option}: must be {wanted}, got {value}" in capsys.readouterr().err
