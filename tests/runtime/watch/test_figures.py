"""A camera's figures."""

from itertools import pairwise

import numpy as np
import pytest

from pumpseg.instances import Instances
from pumpseg.video import Result
from pumpseg.watch.figures import Meter, quantile


def result(latency=0.1, dropped=0):
    frame = np.zeros((8, 8, 3), np.uint8)
    return Result(frame, Instances.empty((8, 8)), "x", 0, 0.0, latency=latency, dropped=dropped)


def test_frame_rate_latency_and_losses():
    now = [0.0]
    meter = Meter(lambda: now[0])
    assert (meter.figures().state, meter.figures().fps, meter.figures().age) == ("starting", 0.0, None)
    for number in range(300):
        now[0] = number / 20
        meter.add(result(latency=number / 1000, dropped=number))
    figures = meter.figures()
    assert figures.fps == pytest.approx(20, rel=0.02)
    assert (figures.state, figures.frames, figures.dropped, figures.age) == ("live", 300, 299, 0.0)
    assert figures.latency == {0.5: 0.15, 0.95: 0.284, 0.99: 0.296}
    now[0] += 20
    assert meter.figures().fps < 0.2


def test_a_loss_is_counted_when_it_is_over_and_drops_add_up():
    meter = Meter(lambda: 0.0)
    meter.end("lost", "gone")
    meter.add(result(dropped=3))
    assert meter.figures().reconnects == 0, "it was never there before"
    meter.end("lost", "gone again")
    assert (meter.figures().state, meter.figures().reason) == ("lost", "gone again")
    meter.add(result(dropped=4))
    assert (meter.figures().reconnects, meter.figures().dropped, meter.figures().reason) == (1, 7, "")
    meter.end("off")
    meter.add(result())
    assert meter.figures().reconnects == 1


def test_a_camera_that_is_too_slow_says_so():
    now = [0.0]
    meter = Meter(lambda: now[0], min_fps=1.25)

    def run(seconds, fps):
        """How often it was too slow, and how often that changed."""
        seen = []
        for _ in range(round(seconds * fps)):
            now[0] += 1 / fps
            meter.add(result())
            seen.append(bool(meter.too_slow))
        return sum(seen), sum(one != other for one, other in pairwise(seen))

    assert run(60, fps=2) == (0, 0)
    slow, changes = run(60, fps=0.5)
    assert (slow >= 24, changes) == (True, 1)
    assert meter.figures().reason == "less than 1.25 frames a second are too few to follow objects"
    assert run(30, fps=1.3)[1] == 0, "on the limit there is one message"
    assert meter.too_slow
    run(20, fps=2)
    assert meter.figures().reason == ""
    meter.end("lost", "gone")
    run(9, fps=0.5)
    assert not meter.too_slow, "nothing is known yet"
    unlimited = Meter(lambda: now[0])
    for _ in range(10):
        now[0] += 10
        unlimited.add(result())
    assert unlimited.figures().reason == ""


def test_quantiles_are_of_the_values():
    assert [quantile([1.0, 2.0, 3.0], share) for share in (0, 0.5, 1)] == [1.0, 2.0, 3.0]
