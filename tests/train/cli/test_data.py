"""pumpseg-data: every command is there, and a wrong line is one line."""

import pytest

from pumpseg_train.cli.data import main

COMMANDS = ["open-images", "convert", "label-on-white", "pseudo-label", "check", "show", "split", "stats", "synth"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: pumpseg-data {command}")


@pytest.mark.parametrize("line", [[], ["chek"], ["check"], ["stats", "a", "b"]])
def test_a_wrong_line_is_one_line(line, capsys):
    with pytest.raises(SystemExit) as ended:
        main(line)
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
