"""pumpseg-data check: what it prints, its exit codes, and numbers that cannot be."""

import json

import pytest

from pumpseg_train.cli.data import main

LARGE, MIDDLE = (60, 60, 40, 35), (120, 70, 25, 28)


@pytest.fixture
def faulty(tmp_path, make_split, edit_json):
    folder = make_split(tmp_path / "in", [[(0, LARGE), (0, MIDDLE)]])
    edit_json(folder, lambda content: content["annotations"][1].update(segmentation=[]))
    return folder


def test_faults_are_printed_written_and_counted(faulty, tmp_path, capsys):
    assert main(["check", str(faulty), "--json", str(tmp_path / "findings.json")]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "fault   no mask                   in 1",
        "          in: 0.png, annotation 2: its segmentation is []",
        f"{faulty}: 1 image in 1 split, 1 fault, 0 warnings",
    ]
    (finding,) = json.loads((tmp_path / "findings.json").read_text())
    assert finding == {
        "fault": True,
        "kind": "no mask",
        "split": "in",
        "what": "0.png, annotation 2",
        "detail": "its segmentation is []",
    }


@pytest.mark.parametrize("bits", ["-1", "128", "few"])
def test_bits_out_of_range_are_refused(faulty, bits, capsys):
    with pytest.raises(SystemExit):
        main(["check", str(faulty), "--near", bits])
    assert "argument --near: must be a whole number from 0 to 127" in capsys.readouterr().err
