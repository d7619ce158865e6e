"""pumpseg-data split: shares that cannot be, and folders that are not new."""

import pytest

from pumpseg_train.cli.data import main


def test_a_division_is_refused_before_the_photos_are_compared(flat, monkeypatch, capsys):
    monkeypatch.setattr("pumpseg_train.dataset.split.probe_file", None)
    assert main(["split", str(flat), "--out", str(flat)]) == 2
    assert "is not an empty folder" in capsys.readouterr().err
    assert main(["split", str(flat), "--out", str(flat / "out"), "--group", "("]) == 2
    assert "is not a regular expression" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--val", "0.6", "--test", "0.5"], "--val 0.6 --test 0.5"),
        (["--val", "-0.1"], "--val -0.1"),
        (["--val", "nan"], "--val nan"),
        (["--val", "0.7", "--test", "0.3"], "--val 0.7 --test 0.3"),
        (["--group", "("], "is not a regular expression"),
        (["--group", "."], "too few for 2 splits"),
    ],
)
def test_a_division_that_cannot_be_is_one_line(flat, tmp_path, options, message, capsys):
    assert main(["split", str(flat), "--out", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
