import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pumpseg_bench.latency import frames_per_second, latency_of, median_interval, ratio_interval

milliseconds = st.floats(0.1, 1e4)
rounds = st.lists(st.lists(milliseconds, min_size=1, max_size=12), min_size=1, max_size=6)


@settings(max_examples=25, deadline=None)
@given(rounds)
def test_the_interval_holds_the_median_and_lies_within_the_samples(samples):
    low, high = median_interval(samples)
    pooled = np.concatenate(samples)
    assert pooled.min() <= low <= np.median(pooled) <= high <= pooled.max()


@settings(max_examples=15, deadline=None)
@given(rounds, st.floats(0.5, 20), st.floats(0, 100))
def test_the_interval_moves_and_grows_with_the_samples(samples, factor, offset):
    low, high = median_interval(samples)
    moved = median_interval([[factor * value + offset for value in values] for values in samples])
    np.testing.assert_allclose(moved, [factor * low + offset, factor * high + offset], rtol=1e-9, atol=1e-9)


@settings(max_examples=10, deadline=None)
@given(milliseconds, st.integers(1, 20), st.integers(1, 5))
def test_equal_samples_leave_no_doubt(value, count, number):
    assert median_interval([[value] * count] * number) == (value, value)


def test_the_interval_holds_the_true_median_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(120):
        # What disturbs a machine lasts for a round.
        samples = np.exp(rng.normal(0, 0.2, (10, 1)) + rng.normal(0, 0.1, (10, 15)))
        low, high = median_interval(samples.tolist())
        held += low <= 1 <= high
    assert 0.85 <= held / 120 <= 1


def test_more_rounds_leave_less_doubt():
    rng = np.random.default_rng(2)
    samples = rng.gamma(4, 10, (40, 10)).tolist()
    widths = [np.diff(median_interval(samples[:count]))[0] for count in (4, 40)]
    assert widths[1] < 0.6 * widths[0]


def test_percentiles():
    latency = latency_of([list(range(1, 51)), list(range(51, 102))])
    assert (latency.p50, latency.p90, latency.p99, latency.max) == (51, 91, 100, 101)
    assert latency_of([list(range(99))]).p99 is None


@pytest.mark.parametrize("empty", [[], [[]]])
def test_nothing_measured_is_an_error(empty):
    with pytest.raises(ValueError, match="without a measurement"):
        latency_of(empty)
    with pytest.raises(ValueError, match="without a measurement"):
        median_interval(empty)


def test_few_frames_give_no_fps():
    assert frames_per_second(29, 1.0) is None
    assert frames_per_second(30, 1.5) == 20


def test_the_ratio_of_two_runs_and_its_interval():
    rng = np.random.default_rng(3)
    base = rng.gamma(100, 0.1, (10, 15))
    ratio, low, high = ratio_interval((3 * base).tolist(), rng.permutation(base).tolist())
    assert ratio == pytest.approx(3)
    assert low < 3 < high
    assert high - low > 0.01, "the runs were at different times"
    with pytest.raises(ValueError, match="without a measurement"):
        ratio_interval([[1.0]], [])
