"""Masks between pixels, RLE counts and polygons, against pycocotools."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from pumpseg.errors import DatasetError
from pumpseg.masks.rle import decode as runtime_decode
from pumpseg_train.dataset.masks import (
    clip_polygons,
    decode,
    encode,
    mask_record,
    one_ring,
    readable_segmentation,
    rings_of,
    trace,
    upright,
    upright_segmentation,
)

any_mask = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))
some_mask = any_mask.filter(np.any)


def filled(ring, mask):
    """pycocotools' own filling of a polygon."""
    height, width = mask.shape
    return coco_mask.decode(coco_mask.frPyObjects([ring.ravel().tolist()], height, width))[..., 0].astype(bool)


@settings(deadline=None)
@given(any_mask)
def test_run_lengths_give_the_mask_again(mask):
    rle = encode(mask)
    assert np.array_equal(decode(rle, mask.shape[1], mask.shape[0]), mask)
    assert np.array_equal(coco_mask.decode({**rle, "counts": rle["counts"].encode()}), mask)
    assert np.array_equal(runtime_decode(rle), mask)


@settings(deadline=None)
@given(any_mask)
def test_plain_counts_are_read_too(mask):
    flat = np.concatenate([[False], mask.T.ravel(), [False]])
    edges = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]), [mask.size]])
    plain = {"size": list(mask.shape), "counts": [int(count) for count in np.diff(edges)]}
    assert np.array_equal(decode(plain, mask.shape[1], mask.shape[0]), mask)


@settings(deadline=None)
@given(any_mask)
def test_outlines_less_holes_give_the_mask_again(mask):
    drawn = np.zeros_like(mask)
    for outline, holes in trace(mask):
        piece = filled(outline, mask)
        for hole in holes:
            piece &= ~filled(hole, mask)
        drawn |= piece
    assert np.array_equal(drawn, mask)


@settings(deadline=None)
@given(some_mask)
def test_one_line_around_everything_gives_the_mask_again(mask):
    ring = one_ring(rings_of(encode(mask), mask.shape[1], mask.shape[0]))
    assert np.array_equal(filled(ring, mask), mask)


@settings(deadline=None)
@given(some_mask)
def test_records_are_what_pycocotools_measures(mask):
    record = mask_record(mask)
    assert record["area"] == coco_mask.area(record["segmentation"]) == mask.sum()
    assert record["bbox"] == coco_mask.toBbox(record["segmentation"]).tolist()


@settings(deadline=None)
@given(some_mask, st.integers(1, 8))
def test_polygons_turn_as_pixels_do(mask, orientation):
    turned = upright(mask, orientation)
    height, width = turned.shape
    polygon = [one_ring(rings_of(encode(mask), mask.shape[1], mask.shape[0])).ravel().tolist()]
    for segmentation in (polygon, encode(mask)):
        again = upright_segmentation(segmentation, orientation, width, height)
        assert np.array_equal(decode(again, width, height), turned)


@settings(deadline=None)
@given(st.lists(st.floats(-50, 80), min_size=6, max_size=20).filter(lambda values: len(values) % 2 == 0))
def test_clipped_polygons_lie_in_the_picture(points):
    (clipped,), moved = clip_polygons([points], 20, 30)
    ring = np.reshape(clipped, (-1, 2))
    assert (ring >= 0).all()
    assert (ring <= (20, 30)).all()
    inside = np.clip(np.reshape(points, (-1, 2)), 0, (20, 30))
    assert moved == bool((np.abs(inside - np.reshape(points, (-1, 2))) > 1).any())
    assert ring == pytest.approx(inside, abs=0.006)


def test_a_ring_has_one_piece_and_one_hole():
    mask = np.zeros((9, 9), bool)
    mask[1:8, 1:8] = True
    mask[3:6, 3:6] = False
    ((outline, holes),) = trace(mask)
    assert sorted(map(tuple, outline)) == [(1, 1), (1, 8), (8, 1), (8, 8)]
    (hole,) = holes
    assert (hole.min(axis=0).tolist(), hole.max(axis=0).tolist()) == ([3, 3], [6, 6])


def test_polygons_that_overlap_have_no_hole_where_they_do():
    squares = [[0, 0, 40, 0, 40, 40, 0, 40], [20, 20, 60, 20, 60, 60, 20, 60]]
    rings = rings_of(squares, 80, 80)
    assert len(rings) == 1
    assert decode([one_ring(rings).ravel().tolist()], 80, 80).sum() == decode(squares, 80, 80).sum()
    apart = [[0, 0, 10, 0, 10, 10], [30, 30, 60, 30, 60, 60]]
    assert [ring.ravel().tolist() for ring in rings_of(apart, 80, 80)] == apart


def test_run_lengths_that_cover_too_little_are_refused():
    with pytest.raises(DatasetError, match="RLE counts cover 60 pixels of 160x120"):
        decode({"size": [120, 160], "counts": [10, 20, 30]}, 160, 120)


SQUARE = [1, 1, 5, 1, 5, 5, 1, 5]
PAIRS = [[1, 1], [5, 1], [5, 5], [1, 5]]


@pytest.mark.parametrize("segmentation", [[SQUARE], [PAIRS], PAIRS, SQUARE, [[str(value) for value in SQUARE]]])
def test_polygons_are_read_however_they_are_nested(segmentation):
    readable, kind, _ = readable_segmentation(segmentation)
    assert not kind
    assert decode(readable, 8, 8).sum() == 16


@pytest.mark.parametrize(
    ("segmentation", "detail"),
    [
        ({"size": [8, 8], "counts": [10.5, 53.5]}, "lists of whole numbers"),
        ({"size": [8, 8], "counts": ["10", "54"]}, "lists of whole numbers"),
        ({"size": [8, 8], "counts": [[10, 54]]}, "lists of whole numbers"),
        ({"size": "8x8", "counts": [10, 54]}, "lists of whole numbers"),
        ({"size": [8, 8, 1], "counts": [10, 54]}, "too many values"),
        ({"size": [8, 8], "counts": [2**63, 54]}, "OverflowError"),
        ({"size": [8, 8], "counts": [2**62, 2**62, 2**62, 2**62, 64]}, "RLE counts cover"),
        ({"size": [-8, -8], "counts": [10, 54]}, "RLE counts of -8x-8 pixels"),
        ({"size": [100_000, 100_000], "counts": [10**10]}, "from 1 to 178,956,970 are read"),
        ({"size": [8, 8], "counts": "b'0@'"}, "truncated or has characters"),
        ({"size": [8, 8], "counts": None}, "lists of whole numbers"),
        ([[1e300, 1, 5, 1, 5, 5]], "a coordinate is 1e[+]300"),
        ([[0, 0, 900_000, 900_000] * 3], "pixels around, more than is read"),
    ],
)
def test_masks_that_are_none_are_damaged(segmentation, detail):
    readable, kind, seen = readable_segmentation(segmentation)
    assert (readable, kind) == (None, "mask damaged")
    assert re.search(detail, seen)
