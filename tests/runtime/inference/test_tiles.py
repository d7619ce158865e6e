"""Windows of a frame, and that what several of them show counts once."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pumpseg import Segmenter
from pumpseg.inference.tiles import Tile, merge, tile_grid
from pumpseg.instances import Instances

CLASSES = ("apple", "pumpkin")


def instances_of(boxes, scores, frame_size, class_ids=None):
    """Instances whose masks fill their boxes."""
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    count = len(boxes)
    ids = np.zeros(count, np.int64) if class_ids is None else np.array(class_ids, np.int64)
    masks = np.ones((count, 28, 28), np.float32)
    return Instances.in_frame(boxes, np.array(scores, np.float32), ids, masks, frame_size, CLASSES)


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 6))
def test_tiles_cover_the_frame_and_overlap(height, width, tiles):
    whole, *rest = tile_grid((height, width), tiles)
    assert whole == Tile(0, 0, width, height)
    assert len(rest) == (0 if tiles == 1 else tiles * tiles)
    assert len({(tile.width, tile.height) for tile in rest}) <= 1
    for start, side, length in (("x", "width", width), ("y", "height", height)):
        spans = sorted({(getattr(tile, start), getattr(tile, side)) for tile in rest})
        if not spans:
            continue
        assert spans[0][0] == 0
        assert sum(spans[-1]) == length
        for (x, size), (after, _) in itertools.pairwise(spans):
            # Half a pixel is lost where a tile begins, at either of the two.
            assert after - x <= 0.75 * size + 1


def test_an_object_in_two_tiles_counts_once():
    frame = (100, 200)
    left, right = Tile(0, 0, 120, 100), Tile(80, 0, 120, 100)
    found = [
        (left, instances_of([[85, 20, 105, 40], [5, 5, 25, 25]], [0.7, 0.9], (100, 120))),
        (right, instances_of([[6, 20, 25, 41]], [0.8], (100, 120))),  # the first of the left one, seen a bit otherwise
    ]
    merged = merge(found, frame)
    assert merged.frame_size == frame
    np.testing.assert_allclose(merged.scores, [0.9, 0.8])
    np.testing.assert_allclose(merged.boxes, [[5, 5, 25, 25], [86, 20, 105, 41]])
    np.testing.assert_allclose(merged.cells.boxes, merged.boxes)
    assert merged.areas.tolist() == [400, 19 * 21]


def test_what_a_border_inside_the_frame_cuts_is_left_out_and_what_the_frame_cuts_stays():
    tile = Tile(50, 0, 100, 100)
    boxes = [[0, 40, 30, 60], [60, 0, 80, 20], [80, 30, 100, 50], [40, 80, 60, 100]]
    merged = merge([(tile, instances_of(boxes, [0.9, 0.8, 0.7, 0.6], (100, 100)))], (200, 150))
    # Left and below the frame continues; above and on the right it ends.
    np.testing.assert_allclose(merged.scores, [0.8, 0.7])


def test_neighbours_of_one_window_and_of_other_classes_stay():
    frame = (100, 100)
    whole, part = Tile(0, 0, 100, 100), Tile(0, 0, 60, 60)
    found = [
        (whole, instances_of([[10, 10, 30, 30], [12, 10, 32, 30]], [0.9, 0.8], frame)),  # the model let both be
        (part, instances_of([[10, 10, 30, 30]], [0.7], (60, 60), [1])),
    ]
    assert merge(found, frame).scores.tolist() == pytest.approx([0.9, 0.8, 0.7])


def test_a_thing_in_front_of_a_larger_one_is_another_thing():
    frame = (100, 100)
    large = instances_of([[10, 10, 90, 90]], [0.9], frame)
    ring = np.ones((1, 28, 28), np.float32)
    ring[:, 8:20, 8:20] = 0
    large = Instances.in_frame(large.boxes, large.scores, large.class_ids, ring, frame, CLASSES)
    small = instances_of([[36, 36, 64, 64]], [0.6], (75, 75))
    found = [(Tile(0, 0, 100, 100), large), (Tile(0, 0, 75, 75), small)]
    assert len(merge(found, frame)) == 2


def test_nothing_at_all():
    nothing = instances_of([], [], (50, 50))
    merged = merge([(Tile(0, 0, 50, 50), nothing), (Tile(10, 10, 30, 30), nothing)], (50, 50))
    assert len(merged) == 0
    assert merged.masks.shape == (0, 50, 50)


def test_a_segmenter_sees_small_things_in_tiles(model_path):
    # The model of the tests finds white squares of a quarter of its 64 pixels on its grid.
    plain, tiled = (Segmenter(model_path, provider="cpu", threads=1, tiles=tiles) for tiles in (1, 2))
    assert tiled.tiles == 2
    frame = np.zeros((128, 128, 3), np.uint8)
    assert len(tiled(frame)) == 0
    frame[32:64, 64:96] = 255
    instances, timings = tiled.timed(frame)
    assert len(plain(frame)) == 1
    assert len(instances) >= 1
    assert timings.session > 0
    assert instances.frame_size == (128, 128)


def test_no_tiles_are_refused(model_path):
    with pytest.raises(ValueError, match="tiles must be at least 1, got 0"):
        Segmenter(model_path, tiles=0)


def test_more_tiles_than_a_picture_can_need_are_refused(model_path):
    with pytest.raises(ValueError, match="tiles must be at most 16, got 17"):
        Segmenter(model_path, tiles=17)
