import io
import sys

import pytest

from pumpseg.cli.streams import BestEffortStream
from pumpseg.errors import SinkError
from pumpseg.video.sinks.stdout import open_stdout


def test_results_are_bytes(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1252"))
    open_stdout().write("南瓜".encode())
    assert written.getvalue().decode() == "南瓜"


@pytest.mark.parametrize("stdout", [None, BestEffortStream(None)])
def test_a_closed_output_is_refused(stdout, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stdout)
    with pytest.raises(SinkError, match="standard output is closed"):
        open_stdout()
