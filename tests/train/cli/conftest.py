"""What a command prints when something is wrong."""

import pytest


@pytest.fixture
def one_line(capsys):
    """The one line that a command wrote to stderr, which must not be a traceback."""

    def read(command):
        error = capsys.readouterr().err
        lines = [line for line in error.splitlines() if line]
        assert len(lines) == 1, error
        assert lines[0].startswith(f"{command}: ")
        return lines[0]

    return read
