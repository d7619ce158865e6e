import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pumpseg.video import ImageSource
from pumpseg.video.stats import RunMeter, Stopwatch, Summary, stage_names


@given(st.lists(st.floats(2e-6, 3600), min_size=1, max_size=200))
def test_a_stopwatch_agrees_with_a_list(durations):
    watch = Stopwatch()
    for seconds in durations:
        watch.add(seconds)
    times = watch.times(run_seconds=2 * sum(durations))
    assert times.mean == pytest.approx(1000 * np.mean(durations))
    assert times.max == 1000 * max(durations)
    assert times.busy == pytest.approx(0.5)
    for measured, share in ((times.median, 0.5), (times.p95, 0.95)):
        exact = 1000 * float(np.quantile(durations, share, method="inverted_cdf"))
        assert measured == pytest.approx(exact, rel=0.05)


def test_nothing_timed_yet():
    times = Stopwatch().times(0.0)
    assert (times.mean, times.median, times.max, times.busy) == (0, 0, 0, 0)


@given(st.one_of(st.just(0.0), st.floats(0, 1e-6), st.floats(1e5, 1e9)))
def test_durations_out_of_the_bins_are_counted(seconds):
    watch = Stopwatch()
    watch.add(seconds)
    assert watch.times(1).max == 1000 * seconds
    assert watch.times(1).median <= 1000 * seconds


def test_a_summary_is_a_line_and_a_json_value():
    watch = Stopwatch()
    watch.add(0.010)
    times = watch.times(1.0)
    summary = Summary(100, 7, 4.0, 5, 1, 2, False, {"decode": times, "session": times}, times)
    assert str(summary) == (
        "100 frames in 4.0 s, 25.0 fps, 5 dropped, 1 reconnect, 2 inputs left out; "
        "ms a frame: decode 10.0, session 10.0; latency 10"
    )
    value = json.loads(json.dumps(summary.to_json()))
    assert (value["fps"], value["instances"], value["reconnects"]) == (25, 7, 1)
    assert value["stages"]["decode"]["mean"] == pytest.approx(10)
    assert value["latency"]["p95"] == pytest.approx(10, rel=0.05)


@given(st.lists(st.floats(2e-6, 3600), min_size=1, max_size=50), st.floats(0, 3600))
def test_the_last_duration_can_be_extended(durations, more):
    watch, longer = Stopwatch(), Stopwatch()
    watch.extend_last(more)  # there is none yet
    for seconds in durations:
        watch.add(seconds)
    for seconds in [*durations[:-1], durations[-1] + more]:
        longer.add(seconds)
    watch.extend_last(more)
    one, other = watch.times(1), longer.times(1)
    assert (one.median, one.p95) == (other.median, other.p95)
    assert one.mean == pytest.approx(other.mean)
    assert one.max == max(other.max, 1000 * max(durations))


def test_stages_of_files_cameras_and_tracked_videos():
    assert stage_names(live=False, tracked=False) == ("decode", "letterbox", "session", "select", "draw", "write")
    assert stage_names(live=True, tracked=True)[0::4] == ("wait", "track")
    assert stage_names(live=False, tracked=True, zones=True)[4:6] == ("track", "zones")


def test_a_meter_counts_results(make_result):
    class Camera(ImageSource):
        live = True

    source = Camera("cam", [])
    source.dropped = 3
    meter = RunMeter(source, None)
    frame = np.zeros((4, 4, 3), np.uint8)
    for latency in (0.01, 0.03):
        seconds = dict.fromkeys(stage_names(live=True, tracked=False), 0.002)
        meter.add(make_result(frame, stage_seconds=seconds, latency=latency))
    meter.add_completing(0.1)
    summary = meter.summary(interrupted=True)
    assert (summary.frames, summary.instances, summary.dropped, summary.interrupted) == (2, 0, 3, True)
    assert summary.latency.mean == pytest.approx(20)
    assert summary.stages["session"].mean == pytest.approx(2)
    assert summary.stages["write"].max == pytest.approx(102)
    assert summary.distinct is None
