import io
import sys

import numpy as np
import pytest

from pumpseg.errors import SinkError
from pumpseg.video.sinks.raw import RawSink


class Pipe:
    """A standard output that is a pipe."""

    def __init__(self, buffer=None, terminal=False):
        self.buffer, self.terminal = buffer or io.BytesIO(), terminal

    def isatty(self):
        return self.terminal


def test_frames_have_the_size_of_the_first(monkeypatch, make_result, caplog):
    pipe = Pipe()
    monkeypatch.setattr(sys, "stdout", pipe)
    sink = RawSink(None)
    first = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    with caplog.at_level("INFO", "pumpseg"):
        sink.write(make_result(first))
        sink.write(make_result(np.full((8, 12, 3), 9, np.uint8), 1))
    data = pipe.buffer.getvalue()
    assert data[:72] == first.tobytes()
    assert data[72:] == bytes([9]) * 72
    assert caplog.messages == ["raw frames: -f rawvideo -pixel_format bgr24 -video_size 6x4"]


def test_a_terminal_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Pipe(terminal=True))
    with pytest.raises(SinkError, match="pipe them to a program"):
        RawSink(None)


def test_a_reader_that_is_gone(monkeypatch, make_result):
    class Broken(io.BytesIO):
        def flush(self):
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", Pipe(Broken()))
    with pytest.raises(SinkError, match="cannot write raw frames to standard output: Broken pipe"):
        RawSink(None).write(make_result(np.zeros((4, 4, 3), np.uint8)))
