import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco

from pumpseg.masks.polygons import trace


def filled(pieces, size):
    """The mask of polygons, filled by pycocotools."""
    mask = np.zeros(size, bool)
    for outline, holes in pieces:
        piece, *gaps = (coco.decode(coco.frPyObjects([ring.ravel().tolist()], *size)[0]) for ring in (outline, *holes))
        mask |= piece.astype(bool) & ~np.any(gaps, axis=0) if holes else piece.astype(bool)
    return mask


def test_a_rectangle_has_the_corners_of_its_pixels():
    (piece,) = trace(np.ones((3, 5), bool), x=10, y=20)
    assert not piece.holes
    assert {tuple(corner) for corner in piece.outline.tolist()} == {(10, 20), (15, 20), (15, 23), (10, 23)}


def test_pieces_and_holes():
    mask = np.ones((7, 12), bool)
    mask[2:5, 2:5] = False
    mask[:, 8] = False
    pieces = trace(mask)
    assert sorted(len(holes) for _, holes in pieces) == [0, 1]


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1), st.floats(0.2, 0.9))
def test_filling_gives_the_mask_again(height, width, seed, share):
    mask = np.random.default_rng(seed).random((height, width)) < share
    np.testing.assert_array_equal(filled(trace(mask), mask.shape), mask)


def test_nothing_has_no_pieces():
    assert trace(np.zeros((4, 4), bool)) == []
    assert trace(np.zeros((0, 4), bool)) == []
