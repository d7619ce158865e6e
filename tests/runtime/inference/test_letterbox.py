import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pumpseg.inference.letterbox import Rule, letterbox, place

sides = st.integers(1, 4000)


def to_input(placement, boxes):
    """The inverse of `placement.to_frame`: boxes xyxy (..., 4) in frame pixels -> in input pixels."""
    (height, width), (content_height, content_width) = placement.frame_size, placement.content_size
    if not placement.rule.is_centred:
        return boxes / np.array([width / content_width, height / content_height] * 2)
    factors = np.array(
        [max(width - 1, 1) / max(content_width - 1, 1), max(height - 1, 1) / max(content_height - 1, 1)] * 2
    )
    end = np.array([0, 0, 1, 1])  # after the last pixel
    return (boxes - end) / factors + np.array([placement.offset[1], placement.offset[0]] * 2) + end


@given(sides, sides, st.integers(16, 1024), st.integers(16, 1024))
def test_content_fits_and_fills_one_side(frame_h, frame_w, input_h, input_w):
    content_h, content_w = place((frame_h, frame_w), (input_h, input_w)).content_size
    assert 1 <= content_h <= input_h
    assert 1 <= content_w <= input_w
    assert content_h == input_h or content_w == input_w


@given(sides, sides, st.lists(st.tuples(*[st.floats(0, 1)] * 4), max_size=5))
def test_boxes_return_from_the_input(frame_h, frame_w, fractions):
    placement = place((frame_h, frame_w), (384, 384))
    boxes = np.array(fractions).reshape(-1, 4) * [frame_w, frame_h, frame_w, frame_h]
    there = to_input(placement, boxes)
    assert (there <= np.array([*placement.content_size[::-1]] * 2) * (1 + 1e-6)).all()
    np.testing.assert_allclose(placement.to_frame(there), boxes, rtol=1e-5, atol=1e-4)


def test_the_frame_goes_top_left_and_the_rest_is_filled():
    frame = np.full((50, 100, 3), (10, 20, 30), np.uint8)
    image, placement = letterbox(frame, (64, 64), fill=(1, 2, 3))
    assert placement.content_size == (32, 64)
    assert (image[:32] == (10, 20, 30)).all()
    assert (image[32:] == (1, 2, 3)).all()


@pytest.mark.parametrize("size", [(100, 70), (40, 40), (300, 300), (100, 90)])
def test_swapped_channels_equal_a_swap_beforehand(size):
    frame = np.random.default_rng(0).integers(0, 256, (100, 70, 3), np.uint8)
    swapped, _ = letterbox(frame, size, swap_red_blue=True)
    plain, _ = letterbox(np.ascontiguousarray(frame[:, :, ::-1]), size)
    np.testing.assert_array_equal(swapped, plain)


@pytest.mark.parametrize("swap", [False, True])
def test_a_given_buffer_is_reused_for_frames_of_any_shape(swap):
    rng = np.random.default_rng(1)
    buffer = np.empty((64, 96, 3), np.uint8)
    for shape in [(200, 100, 3), (64, 96, 3), (33, 200, 3)]:
        frame = rng.integers(0, 256, shape, np.uint8)
        image, _ = letterbox(frame, (64, 96), out=buffer, swap_red_blue=swap)
        assert image is buffer
        np.testing.assert_array_equal(image, letterbox(frame, (64, 96), swap_red_blue=swap)[0])


def test_strong_shrinking_averages_instead_of_skipping_pixels():
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 255
    image, _ = letterbox(stripes, (100, 100))
    assert abs(image.astype(int) - 127).max() <= 1


@pytest.mark.parametrize(
    ("frame", "size"), [((480, 640), 384), ((720, 1280), 384), ((1080, 1920), 384), ((901, 1203), 150)]
)
def test_shrinking_stays_close_to_the_mean_of_areas(frame, size):
    rng = np.random.default_rng(2)
    picture = cv2.resize(rng.integers(0, 256, (30, 40, 3), np.uint8), frame[::-1], interpolation=cv2.INTER_CUBIC)
    image, placement = letterbox(picture, (size, size))
    height, width = placement.content_size
    means = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    difference = np.abs(image[:height, :width].astype(int) - means)
    assert difference.mean() < 2


def test_a_frame_is_not_changed():
    frame = np.full((30, 30, 3), 9, np.uint8)
    letterbox(frame, (30, 30), swap_red_blue=True)
    letterbox(frame, (60, 60))
    assert (frame == 9).all()


@pytest.mark.parametrize(
    "frame",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)],
)
def test_other_frames_are_refused(frame):
    with pytest.raises(ValueError, match="uint8"):
        letterbox(frame, (8, 8))


def test_an_empty_frame_and_a_wrong_buffer_are_refused():
    with pytest.raises(ValueError, match="0x5"):
        letterbox(np.zeros((0, 5, 3), np.uint8), (8, 8))
    with pytest.raises(ValueError, match="out must be"):
        letterbox(np.zeros((5, 5, 3), np.uint8), (8, 8), out=np.zeros((8, 9, 3), np.uint8))


@pytest.mark.parametrize(
    ("frame", "size", "rule", "content", "offset"),
    [
        # what utils.resize_image(mode="square") of mrcnn gives: enlarged to the shorter side, unless it would not fit
        ((448, 640), 1024, Rule("centred", min_side=800), (717, 1024), (153, 0)),
        ((600, 600), 1024, Rule("centred", min_side=800), (800, 800), (112, 112)),
        ((600, 601), 1024, Rule("centred"), (600, 601), (212, 211)),
        ((3000, 2000), 1024, Rule("centred", min_side=800), (1024, 683), (0, 170)),
        ((100, 200), 1024, Rule("centred", min_scale=2.0), (200, 400), (412, 312)),
    ],
)
def test_centred_frames_are_where_mrcnn_puts_them(frame, size, rule, content, offset):
    placement = place(frame, (size, size), rule)
    assert (placement.content_size, placement.offset) == (content, offset)


def test_boxes_of_centred_frames_are_whole_pixels_from_first_to_last():
    placement = place((300, 450), (256, 256), Rule("centred", min_side=256))
    top, height = placement.offset[0], placement.content_size[0]
    whole = np.array([[0, top, 256, top + height]])
    assert placement.to_frame(whole).tolist() == [[0, 0, 450, 300]]
    assert np.allclose(to_input(placement, np.array([[0, 0, 450, 300]])), whole)
    first_pixel = placement.to_frame(np.array([[0, top, 1, top + 1]]))
    assert first_pixel.tolist() == [[0, 0, 1, 1]]


@given(
    st.tuples(st.integers(2, 900), st.integers(2, 900)),
    st.integers(0, 300),
    st.lists(st.floats(0, 1), min_size=4, max_size=4),
)
def test_boxes_return_to_centred_frames(frame, min_side, shares):
    placement = place(frame, (256, 256), Rule("centred", min_side=min_side))
    (height, width), (y, x) = placement.content_size, placement.offset
    assert max(height, width) <= 256
    assert min(y, x) >= 0
    assert y + height <= 256
    assert x + width <= 256
    if min(height, width) < 2:
        return
    box = np.array(
        [round(share * (side - 1)) for share, side in zip(shares, (*frame[::-1], *frame[::-1]), strict=True)]
    )
    assert np.abs(placement.to_frame(to_input(placement, box)) - box).max() == 0


def test_centred_frames_are_resized_towards_black_and_cut():
    frame = np.full((2, 2, 3), 200, np.uint8)
    frame[0, 0] = 0
    image, _ = letterbox(frame, (4, 4), (0, 0, 0), rule=Rule("centred", min_side=4))
    # a quarter pixel outside counts 3/4; inside 1/4 and 3/4 of the neighbours
    wanted = [[0, 37, 112, 112], [37, 87, 162, 150], [112, 162, 187, 150], [112, 150, 150, 112]]
    assert image[..., 0].tolist() == wanted


def test_centred_frames_leave_the_rest_to_the_fill_also_in_a_used_buffer():
    buffer = np.full((8, 8, 3), 77, np.uint8)
    frame = np.full((4, 8, 3), 5, np.uint8)
    frame[..., 2] = 250
    image, placement = letterbox(frame, (8, 8), (1, 2, 3), buffer, swap_red_blue=True, rule=Rule("centred"))
    assert placement.offset == (2, 0)
    assert (image[[0, 1, 6, 7]] == (1, 2, 3)).all()
    assert (image[2:6] == (250, 5, 5)).all()


def test_unknown_rules_are_refused():
    with pytest.raises(ValueError, match="unknown letterbox placement 'left'"):
        Rule("left")
