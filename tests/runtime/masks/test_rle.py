import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco

from pumpseg.masks.rle import counts_to_string, decode, encode, encode_crop, string_to_counts


@st.composite
def crops(draw):
    """A mask of a frame, and the part of it that holds everything set."""
    frame_h, frame_w = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    x, y = draw(st.integers(0, frame_w - 1)), draw(st.integers(0, frame_h - 1))
    crop_w, crop_h = draw(st.integers(0, frame_w - x)), draw(st.integers(0, frame_h - y))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    crop = rng.random((crop_h, crop_w)) < draw(st.sampled_from([0, 0.1, 0.5, 0.9, 1]))
    mask = np.zeros((frame_h, frame_w), bool)
    mask[y : y + crop_h, x : x + crop_w] = crop
    return crop, x, y, mask


@given(crops())
def test_a_crop_gives_the_string_of_pycocotools(case):
    crop, x, y, mask = case
    rle = encode_crop(crop, x, y, mask.shape)
    reference = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert rle["counts"].encode() == reference["counts"]
    assert rle["size"] == reference["size"]
    np.testing.assert_array_equal(coco.decode(rle).astype(bool), mask)
    np.testing.assert_array_equal(decode(rle), mask)


@pytest.mark.parametrize("size", [(1, 70_000), (70_000, 1), (1080, 1920)])
def test_large_frames_agree_with_pycocotools(size):
    mask = np.random.default_rng(3).random(size) < 0.001
    mask[size[0] // 3 : size[0] // 2 + 1, size[1] // 3 : size[1] // 2 + 1] = True
    rle = encode(mask)
    assert rle["counts"].encode() == coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    np.testing.assert_array_equal(decode(rle), mask)


@given(st.lists(st.integers(0, 2**33), max_size=40))
def test_strings_hold_any_counts(counts):
    array = np.array(counts, np.int64)
    np.testing.assert_array_equal(string_to_counts(counts_to_string(array)), array)


def test_a_non_contiguous_crop_is_encoded():
    mask = np.random.default_rng(0).random((20, 30)) < 0.5
    rle = encode_crop(mask[2:11, 3:20], 3, 2, (20, 30))
    wanted = np.zeros_like(mask)
    wanted[2:11, 3:20] = mask[2:11, 3:20]
    np.testing.assert_array_equal(decode(rle), wanted)


@pytest.mark.parametrize(("x", "y"), [(-1, 0), (0, -1), (6, 0), (0, 6)])
def test_a_crop_outside_the_frame_is_refused(x, y):
    with pytest.raises(ValueError, match="leaves a 10x10 frame"):
        encode_crop(np.ones((5, 5), bool), x, y, (10, 10))


@pytest.mark.parametrize("counts", ["", "5", "P", "04Z", "!", "é", "oooooooooooooooo0"])
def test_damaged_strings_are_refused(counts):
    with pytest.raises(ValueError, match="RLE"):
        decode({"size": [4, 4], "counts": counts})
