"""Frames with objects whose masks are known to the pixel."""

import numpy as np
import pytest

from pumpseg import Instances


def disc(side):
    """A disc in a square of side x side pixels, bool."""
    middle = np.arange(side) + 0.5 - side / 2
    return middle[:, None] ** 2 + middle**2 <= (side / 2) ** 2


@pytest.fixture(scope="session")
def make_frame():
    """Instances of squares or discs, with their track ids.

    objects: (track id or None for unconfirmed, left, top, side), in whole pixels; ids None: no tracker.
    """

    def make(objects, size=(120, 160), *, tracked=True, shape="square", class_ids=None, names=("pumpkin",)):
        cells = [disc(side) if shape == "disc" else np.ones((side, side), bool) for *_, side in objects]
        boxes = np.array([[x, y, x + side, y + side] for _, x, y, side in objects], np.float32).reshape(-1, 4)
        most = max((len(cell) for cell in cells), default=1)
        if any(len(cell) != most for cell in cells):
            assert shape == "square"
            cells = [np.ones((most, most), bool)] * len(cells)
        count = len(objects)
        instances = Instances.in_frame(
            boxes,
            np.full(count, 0.9, np.float32),
            np.zeros(count, np.int64) if class_ids is None else np.array(class_ids, np.int64),
            np.array(cells, np.float32).reshape(count, most, most),
            size,
            names,
        )
        assert len(instances) == count
        ids = np.array([-1 if one[0] is None else one[0] for one in objects], np.int64)
        return instances.with_track_ids(ids) if tracked else instances

    return make
