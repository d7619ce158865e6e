"""What the tests of sources, sinks and viewers share."""

import numpy as np
import pytest

from pumpseg import Instances, Segmenter
from pumpseg.video import Result


@pytest.fixture(scope="session")
def segmenter(model_path):
    return Segmenter(model_path, provider="cpu", threads=1, allow_spinning=False)


@pytest.fixture(scope="session")
def make_result():
    """A result whose frame has no instances, unless they are given; pts: in 1/1000 s."""

    def make(frame, index=0, pts=None, *, instances=None, source="x", **more):
        time = 0.0 if pts is None else pts / 1000
        instances = Instances.empty(frame.shape[:2]) if instances is None else instances
        return Result(frame, instances, source, index, time, pts, **more)

    return make


@pytest.fixture(scope="session")
def make_instances():
    """Instances in a frame of a size, whose masks fill their boxes, xyxy; the first has the best score."""

    def make(size, boxes, name="pumpkin"):
        boxes = np.array(boxes, np.float32).reshape(-1, 4)
        count = len(boxes)
        scores = np.linspace(0.9, 0.6, count, dtype=np.float32)
        masks = np.ones((count, 4, 4), np.float32)
        return Instances.in_frame(boxes, scores, np.zeros(count, np.int64), masks, size, [name])

    return make
