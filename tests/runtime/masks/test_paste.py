import cv2
import numpy as np
from hypothesis import assume, example, given
from hypothesis import strategies as st

from pumpseg.masks.paste import CropMask, paste_crop, shared_pixels

# OpenCV 4 rounds warp positions to 1/32 of a cell.
NEAR_THRESHOLD = 1e-4 if int(cv2.__version__.split(".")[0]) >= 5 else 0.07


def sampled_reference(cells, box, frame_size):
    """detectron2's paste over the whole frame, in plain numpy float64, with the edge cells replicated."""
    (x1, y1, x2, y2), (frame_h, frame_w) = box, frame_size
    mask_h, mask_w = cells.shape
    u = np.clip((np.arange(frame_w) + 0.5 - x1) / (x2 - x1) * mask_w - 0.5, 0, mask_w - 1)
    v = np.clip((np.arange(frame_h) + 0.5 - y1) / (y2 - y1) * mask_h - 0.5, 0, mask_h - 1)
    u0, v0 = np.floor(u).astype(int), np.floor(v).astype(int)
    u1, v1 = np.minimum(u0 + 1, mask_w - 1), np.minimum(v0 + 1, mask_h - 1)
    fu, fv = u - u0, (v - v0)[:, None]
    top = cells[v0][:, u0] * (1 - fu) + cells[v0][:, u1] * fu
    bottom = cells[v1][:, u0] * (1 - fu) + cells[v1][:, u1] * fu
    return top * (1 - fv) + bottom * fv


@st.composite
def pastes(draw):
    frame_size = draw(st.tuples(st.integers(1, 60), st.integers(1, 60)))
    position = st.floats(-20, 70, width=32)
    x1, y1 = draw(position), draw(position)
    x2, y2 = x1 + draw(st.floats(1, 80)), y1 + draw(st.floats(1, 80))
    box = np.array([x1, y1, x2, y2], np.float32)
    width, height = box[2:].astype(float) - box[:2]
    assume(width >= 1 and height >= 1)  # rounding to float32 may have made it thinner
    side = draw(st.sampled_from([2, 7, 14, 28]))
    cells = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).random((side, side), np.float32)
    return cells, box, frame_size


# A quarter of a pixel of the box is in the frame: its centre is outside the box.
SLIVER = (
    np.array([[0.8506242, 0.63696164], [0.5111365, 0.26978666]], np.float32),
    np.array([0, 24.75, 1, 25.75], np.float32),
    (25, 1),
)


@given(pastes())
@example(SLIVER)
def test_paste_matches_plain_numpy(case):
    cells, box, frame_size = case
    crop = paste_crop(cells, box, frame_size)
    pasted = np.zeros(frame_size, bool)
    pasted[crop.y : crop.y + crop.mask.shape[0], crop.x : crop.x + crop.mask.shape[1]] = crop.mask

    x1, y1, x2, y2 = box.astype(float)
    sampled = sampled_reference(cells, (x1, y1, x2, y2), frame_size)
    column, row = np.arange(frame_size[1]) + 0.5, np.arange(frame_size[0])[:, None] + 0.5
    inside = (column >= x1) & (column < x2) & (row >= y1) & (row < y2)
    assume(inside.any())  # what a box gives that holds no pixel centre of the frame is tested below
    certain = abs(sampled - 0.5) > NEAR_THRESHOLD
    np.testing.assert_array_equal(pasted & certain, (sampled >= 0.5) & inside & certain)


def test_an_object_that_barely_enters_the_frame_is_not_squeezed_into_it():
    rows, columns = np.mgrid[:28, :28] - 13.5
    disc = (np.hypot(rows, columns) < 14).astype(np.float32)
    pixels = [
        np.count_nonzero(paste_crop(disc, np.array([10, top, 90, top + 80], np.float32), (60, 100)).mask)
        for top in (59.9, 59.6, 59.4)
    ]
    assert pixels[:2] == [0, 0]
    assert 0 < pixels[2] < 40


def test_paste_matches_detectron2_away_from_the_border():
    """grid_sample(align_corners=False) fades the outer half cell to zero; inside it, the two agree."""
    cells = np.random.default_rng(5).random((28, 28), np.float32)
    box = np.array([10.3, 4.6, 90.1, 77.7], np.float32)
    crop = paste_crop(cells, box, (100, 120))
    x1, y1, x2, y2 = box.astype(float)
    grid_x = (np.arange(120) + 0.5 - x1) / (x2 - x1) * 2 - 1
    grid_y = (np.arange(100) + 0.5 - y1) / (y2 - y1) * 2 - 1
    u, v = ((grid_x + 1) * 28 - 1) / 2, ((grid_y + 1) * 28 - 1) / 2
    sampled = sampled_reference(cells, (x1, y1, x2, y2), (100, 120))
    inner = ((u >= 0) & (u <= 27))[None] & ((v >= 0) & (v <= 27))[:, None] & (abs(sampled - 0.5) > 0.01)
    pasted = np.zeros((100, 120), bool)
    pasted[crop.y : crop.y + crop.mask.shape[0], crop.x : crop.x + crop.mask.shape[1]] = crop.mask
    np.testing.assert_array_equal(pasted[inner], (sampled >= 0.5)[inner])


def test_masks_can_fade_along_the_border_as_matterports_do():
    probabilities = np.full((2, 2), 0.6, np.float32)
    box = np.array([1, 1, 5, 5], np.float32)
    assert paste_crop(probabilities, box, (8, 8)).mask.all()
    # The outer pixels are a quarter cell outside the middles of the outer cells: 0.6 * 0.75 < 0.5.
    faded = paste_crop(probabilities, box, (8, 8), border="fade")
    assert (faded.x, faded.y) == (1, 1)
    assert faded.mask.tolist() == [[False] * 4, [False, True, True, False], [False, True, True, False], [False] * 4]


crops = st.builds(
    lambda x, y, w, h, seed: CropMask(x, y, np.random.default_rng(seed).random((h, w)) < 0.6),
    *[st.integers(0, 12)] * 4,
    st.integers(0, 99),
)


@given(crops, crops)
def test_shared_pixels_are_those_of_full_masks(one, other):
    frames = np.zeros((2, 30, 30), bool)
    for frame, crop in zip(frames, (one, other), strict=True):
        frame[crop.y : crop.y + crop.mask.shape[0], crop.x : crop.x + crop.mask.shape[1]] = crop.mask
    assert shared_pixels(one, other) == shared_pixels(other, one) == np.count_nonzero(frames[0] & frames[1])


@given(st.integers(1, 40), st.integers(1, 40), st.randoms(use_true_random=False))
def test_a_centroid_is_the_mean_of_the_pixels(height, width, random):
    mask = np.array([[random.random() < 0.3 for _ in range(width)] for _ in range(height)])
    assume(mask.any())
    rows, columns = np.nonzero(mask)
    np.testing.assert_allclose(CropMask(7, 3, mask).centroid, (columns.mean() + 7.5, rows.mean() + 3.5))
