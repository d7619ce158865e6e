"""pumpseg-data synth: options that go together, and one line for what is wrong."""

import pytest

from pumpseg_train.cli.data import main


@pytest.mark.parametrize(
    "arguments",
    [
        ["--out", "DIR"],
        ["--out", "DIR", "--count", "0"],
        ["--out", "DIR", "--count", "1", "--val-count", "0"],
        ["--out", "DIR", "--count", "1", "--size", "640"],
        ["--out", "DIR", "--count", "1", "--size", "16x16"],
        ["--out", "DIR", "--count", "1", "--seed", "-1"],
        ["--out", "DIR", "--count", "1", "--truth", "t.jsonl"],
        ["--clip", "DIR/c.avi"],
        ["--clip", "DIR/c.mp4", "--count", "3"],
        ["--clip", "DIR/c.mp4", "--backgrounds", "DIR"],
        ["--out", "DIR/new", "--count", "1", "--backgrounds", "DIR"],
        ["--out", "DIR/new", "--count", "1", "--paste-from", "DIR"],
        ["--clip", "DIR/c.mp4", "--seconds", "0"],
        ["--clip", "DIR/c.mp4", "--seconds", "nan"],
        ["--clip", "DIR/c.mp4", "--size", "65x64"],
        ["--clip", "DIR/none/c.mp4", "--size", "64x64", "--seconds", "0.1"],
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(arguments, tmp_path, capsys):
    try:
        code = main(["synth", *(word.replace("DIR", str(tmp_path)) for word in arguments)])
    except SystemExit as stop:  # of the parser
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith("pumpseg-data")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_option_of_the_other_output_is_named(tmp_path, capsys):
    assert main(["synth", "--clip", str(tmp_path / "c.mp4"), "--workers", "2"]) == 2
    assert "--workers goes with --out only" in capsys.readouterr().err
