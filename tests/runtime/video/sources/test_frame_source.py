import numpy as np

from pumpseg.video.sources.frame_source import Frame, Source


class Numbers(Source):
    name = "numbers"
    closed = 0

    def __iter__(self):
        self.dropped += 1
        yield Frame(np.zeros((2, 2, 3), np.uint8), self.name, 0, 0.0)

    def close(self):
        self.closed += 1


def test_a_source_needs_only_a_name_and_frames():
    with Numbers() as source:
        (frame,) = source
    assert (frame.source, frame.pts, frame.arrived) == ("numbers", None, None)
    assert (source.inputs, source.length, source.timing, source.audio, source.live) == ((), None, None, None, False)
    assert (source.reconnects, source.failed, source.closed) == (0, 0, 1)


def test_counts_belong_to_one_source():
    first, second = Numbers(), Numbers()
    list(first)
    assert (first.dropped, second.dropped) == (1, 0)
