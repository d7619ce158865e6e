import numpy as np
import pytest

from pumpseg.checks import check_count, check_frame, check_share
from pumpseg.errors import OptionError


@pytest.mark.parametrize("value", [1, 7, np.int64(7)])
def test_whole_numbers(value):
    check_count("workers", value, 7)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, "workers must be at least 1, got 0"),
        (8, "workers must be at most 7, got 8"),
        (1.0, "workers must be a whole number, got 1.0"),
        (True, "workers must be a whole number, got True"),
        ("2", "workers must be a whole number, got '2'"),
        (None, "workers must be a whole number, got None"),
    ],
)
def test_a_number_that_cannot_be(value, message):
    with pytest.raises(OptionError, match=message):
        check_count("workers", value, 7)


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.25)])
def test_shares(value):
    check_share("threshold", value)


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan"), True, "0.5", None])
def test_a_share_that_cannot_be(value):
    with pytest.raises(OptionError, match="threshold must be from 0 to 1, got"):
        check_share("threshold", value)


def test_a_frame_is_given_back():
    frame = np.zeros((4, 6, 3), np.uint8)
    assert check_frame(frame) is frame
    check_frame(frame[::2, ::-1])


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (None, "must be a NumPy array, got NoneType: was the image read at all"),
        ([[1]], "NumPy array, got list"),
        (np.zeros((4, 4, 3)), "uint8, got float64"),
        (np.zeros((4, 4), np.uint8), "COLOR_GRAY2BGR"),
        (np.zeros((4, 4, 1), np.uint8), "COLOR_GRAY2BGR"),
        (np.zeros((4, 4, 4), np.uint8), "COLOR_BGRA2BGR"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"\(H, W, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
    ],
)
def test_wrong_frames_say_what_to_do(frame, message):
    with pytest.raises(ValueError, match=message):
        check_frame(frame)
