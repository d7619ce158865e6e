"""What the tests of the commands share."""

import pytest

from pumpseg.cli.video import main


@pytest.fixture
def run(model_path, tmp_path, monkeypatch, capfd):
    """Runs the command in an empty folder and gives its exit code and what it wrote on stderr."""
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def command(*arguments, model=True):
        options = ["--model", str(model_path)] if model else []
        try:
            code = main([str(argument) for argument in arguments] + ["--no-show", *options])
        except SystemExit as stop:  # a wrong option
            code = stop.code
        out, err = capfd.readouterr()
        assert out == ""
        return code, err

    command.folder = folder
    return command
