"""pumpseg-data: every command is there, and a wrong line is one line."""

import sys

import pytest

from pumpseg_train.cli.data import main

COMMANDS = ["open-images", "convert", "label-on-white", "pseudo-label", "check", "show", "split", "stats", "synth"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"examples:\n  pumpseg-data {command} ")


@pytest.mark.parametrize("line", [[], ["chek"], ["check"], ["stats", "a", "b"]])
def test_a_wrong_line_is_one_line(line, capsys):
    with pytest.raises(SystemExit) as ended:
        main(line)
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("command", ["check", "convert", "stats"])
def test_a_full_disk_behind_standard_output_is_one_line(command, fruit, tmp_path, monkeypatch, capsys):
    outputs = ["--out", str(tmp_path / "out")] if command == "convert" else []
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdout", full)
        assert main([command, str(fruit), *outputs]) == 1
    assert "pumpseg-data: error: cannot write to standard output: No space left" in capsys.readouterr().err
    assert (tmp_path / "out").is_dir() == bool(outputs)
