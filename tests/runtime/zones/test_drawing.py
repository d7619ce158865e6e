import numpy as np
import pytest

from pumpseg import Line, Zone, ZoneCounter
from pumpseg.zones.drawing import draw_counts, draw_shapes

ZONE = Zone("gate", [0.25, 0.25, 0.75, 0.25, 0.75, 0.75, 0.25, 0.75])
LINE = Line("road", [0.1, 0.5, 0.9, 0.5])


@pytest.fixture
def drawn(make_frame):
    """What is drawn on a grey frame for some shapes: bool (H, W)."""

    def draw(shapes, function, size=(240, 320), **more):
        counter = ZoneCounter(shapes)
        frame = np.full((*size, 3), 90, np.uint8)
        function(frame, counter.update(make_frame([(1, 2, 2, 4)], size=size, **more), 0.0))
        return (frame != 90).any(axis=2)

    return draw


def test_the_outline_of_a_zone_is_where_its_edge_is(drawn):
    marked = drawn([ZONE], draw_shapes)
    rows, columns = np.nonzero(marked)
    assert [rows.min(), rows.max(), columns.min(), columns.max()] == pytest.approx([60, 180, 80, 240], abs=4)
    assert not marked[70:170, 90:230].any()


def test_the_arrow_of_a_line_points_to_where_in_is(drawn):
    down = drawn([LINE], draw_shapes)
    up = drawn([Line("road", [0.9, 0.5, 0.1, 0.5])], draw_shapes)
    assert down[125:, 150:170].any()
    assert not down[:112].any()
    assert up[:115, 150:170].any()
    assert not up[128:].any()


@pytest.mark.parametrize("size", [(24, 32), (240, 320), (1080, 1920)])
def test_tags_are_in_the_frame_and_do_not_cover_each_other(drawn, size):
    separate = [drawn([Zone(name, ZONE.corners)], draw_counts, size) for name in ("a", "b")]
    both = drawn([Zone("a", ZONE.corners), Zone("b", ZONE.corners)], draw_counts, size)
    assert separate[0].any()
    if size[0] > 100:
        assert both.sum() >= 1.9 * separate[0].sum()
        assert separate[0].sum(axis=0).max() > size[0] / 50  # readable: it grows with the frame


def test_tags_have_the_counts(drawn):
    tracked, untracked = drawn([ZONE], draw_counts), drawn([ZONE], draw_counts, tracked=False)
    assert tracked.sum() > 1.2 * untracked.sum()  # "gate 0, 0%, in 0 out 0" and "gate 0, 0%"
    assert drawn([], draw_counts).sum() == 0
