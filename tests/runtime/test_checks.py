import numpy as np
import pytest

from pumpseg.checks import check_count, check_share
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
