import json
import math
import pickle
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pumpseg import Line, OptionError, Zone, ZoneCounter
from pumpseg.video import tracking
from pumpseg.zones.counter import HOLD_SECONDS, LINE_MARGIN, SHARE_MARGIN
from pumpseg.zones.shapes import zone_mask

SIZE = (120, 160)
LEFT = Zone("left", [0, 0, 0.5, 0, 0.5, 1, 0, 1])
INNER = Zone("inner", [40, 30, 120, 30, 120, 90, 40, 90])
DOWN = Line("down", [0, 60, 160, 60])


def run(counter, frames, step=0.1, start=0.0):
    """The counts of frames, each a call of make_frame or None for no frame at all."""
    return [counter.update(frame, start + step * i) for i, frame in enumerate(frames) if frame is not None]


def entered_and_left(counts, name="inner"):
    zone = counts.zones[name]
    return sum(zone.entered.values()), sum(zone.left.values())


def in_and_out(counts, name="down"):
    line = counts.lines[name]
    return sum(line.crossed_in.values()), sum(line.crossed_out.values())


def test_tracks_are_held_as_long_as_the_tracker_keeps_their_ids():
    assert HOLD_SECONDS == tracking.LOST_SECONDS


# What is seen in one frame.


def test_an_object_is_in_a_zone_by_its_mask_not_its_box(make_frame):
    # An L of which a quarter of the box, but a third of the mask, is left of the zone's edge.
    frame = make_frame([(1, 60, 20, 40)], tracked=False)
    cells = frame.cells.probabilities.copy()
    cells[0, :20, 20:] = 0  # of the right half only the lower part is left: 400 of 1200 pixels
    shaped = replace(frame, cells=replace(frame.cells, probabilities=cells))
    assert shaped.areas.tolist() == [1200]
    for share, count in ((0.66, 1), (0.67, 0)):
        zone = Zone("left", [0, 0, 80, 0, 80, 120, 0, 120], share=share)
        assert ZoneCounter([zone]).update(shaped, 0.0).zones["left"].count == count


def test_exactly_the_share_is_enough(make_frame):
    half, less = make_frame([(1, 70, 0, 20)], tracked=False), make_frame([(1, 71, 0, 20)], tracked=False)
    assert ZoneCounter([LEFT]).update(half, 0.0).zones["left"].count == 1
    assert ZoneCounter([LEFT]).update(less, 0.0).zones["left"].count == 0


def test_occupancy_counts_each_pixel_of_the_union_once(make_frame):
    frame = make_frame([(1, 30, 20, 40), (2, 50, 40, 40), (3, 150, 110, 10), (4, 60, 50, 20)], tracked=False)
    covered = frame.masks.any(axis=0)
    inside = np.zeros(SIZE, bool)
    inside[30:90, 40:120] = True
    counter = ZoneCounter([INNER, LEFT])
    for time in (0.0, 0.1):  # the canvas is clean again at the second frame
        counts = counter.update(frame, time)
        assert counts.zones["inner"].occupancy == (covered & inside).sum() / inside.sum()
        assert counts.zones["left"].occupancy == covered[:, :80].sum() / (120 * 80)
    assert counter.update(make_frame([], tracked=False), 0.2).zones["inner"].occupancy == 0.0
    assert counts.zones["inner"].max_occupancy == counts.zones["inner"].mean_occupancy > 0.2


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-20, 150), st.integers(-20, 110)), min_size=0, max_size=8),
    st.lists(st.tuples(st.integers(0, 160), st.integers(0, 120)), min_size=3, max_size=3, unique=True),
)
def test_count_and_occupancy_equal_those_of_whole_masks(make_frame, places, corners):
    objects = [(i, x, y, 28) for i, (x, y) in enumerate(places)]
    frame = make_frame(objects, tracked=False, shape="disc")
    try:
        zone = Zone("zone", corners)
        crop = zone_mask(zone, SIZE)
    except OptionError:
        return
    inside = np.zeros(SIZE, bool)
    inside[crop.y : crop.y + crop.mask.shape[0], crop.x : crop.x + crop.mask.shape[1]] = crop.mask
    counts = ZoneCounter([zone]).update(frame, 0.0).zones["zone"]
    assert counts.occupancy == (frame.masks & inside).any(axis=0).sum() / inside.sum()
    wanted = [2 * (mask & inside).sum() >= mask.sum() > 0 for mask in frame.masks]
    assert counts.count == sum(wanted)


def test_zones_count_the_classes_that_they_name(make_frame):
    zones = [Zone("all", LEFT.corners), Zone("gourds", LEFT.corners, classes=("gourd",))]
    frame = make_frame([(1, 0, 0, 20), (2, 30, 0, 20)], class_ids=[0, 1], names=("pumpkin", "gourd"))
    counts = ZoneCounter(zones).update(frame, 0.0)
    assert [one.label for one in counts.zones["all"].objects] == ["pumpkin", "gourd"]
    assert [one.track_id for one in counts.zones["gourds"].objects] == [2]
    assert counts.zones["gourds"].occupancy == counts.zones["all"].occupancy / 2 == 400 / 9600
    with pytest.raises(OptionError, match="zone gourds: no class 'gourd'; there are pumpkin"):
        ZoneCounter(zones).update(make_frame([]), 0.0)


# Tracks in zones.


def moving(make_frame, xs, y=50, side=20, track_id=1):
    return [None if x is None else make_frame([(track_id, x, y, side)] if x != "-" else []) for x in xs]


def test_a_track_enters_and_leaves_once_and_its_dwell_is_timed(make_frame):
    counts = run(ZoneCounter([INNER]), moving(make_frame, range(0, 140, 5)))
    # In the zone (40..120) with half of it from x = 30; out below 40% of it, after x = 112.
    inside = [frame.zones["inner"].count for frame in counts]
    assert inside == [int(30 <= x <= 112) for x in range(0, 140, 5)]
    assert entered_and_left(counts[-1]) == (1, 1)
    arrivals = [one for frame in counts for one in frame.zones["inner"].arrivals]
    departures = [one for frame in counts for one in frame.zones["inner"].departures]
    assert [one.track_id for one in arrivals] == [one.track_id for one in departures] == [1]
    assert departures[0].seconds == counts[-1].zones["inner"].mean_dwell == pytest.approx(1.6)
    assert counts[10].zones["inner"].objects[0].seconds == pytest.approx(0.4)
    assert counts[-1].zones["inner"].max_dwell == pytest.approx(1.6)
    assert counts[-1].zones["inner"].max_count == 1


def test_a_track_that_jitters_on_the_border_enters_once(make_frame):
    at_half = 30
    jitter = [at_half + offset for offset in (-1, 0, -1, 1, 0, -1, -2, 0, 1, -1, 0)]
    counts = run(ZoneCounter([INNER]), moving(make_frame, jitter))
    assert entered_and_left(counts[-1]) == (1, 0)
    out = round(20 * SHARE_MARGIN) + 1
    counts = run(ZoneCounter([INNER]), moving(make_frame, [at_half, at_half - out, at_half]))
    assert entered_and_left(counts[-1]) == (2, 1)


def test_an_object_that_appears_inside_has_entered(make_frame):
    counts = run(ZoneCounter([INNER]), moving(make_frame, [70, 70]))
    assert [entered_and_left(frame) for frame in counts] == [(1, 0), (1, 0)]


def test_unconfirmed_objects_cover_pixels_but_are_not_counted(make_frame):
    counts = run(ZoneCounter([INNER]), moving(make_frame, [70, 70], track_id=None))[-1]
    assert counts.zones["inner"].count == 0
    assert entered_and_left(counts) == (0, 0)
    assert counts.zones["inner"].occupancy == 400 / 4800


def test_a_track_that_is_missed_stays_until_the_tracker_forgets_it(make_frame):
    frames = [70, *["-"] * 15, 75, *["-"] * 17]
    counts = run(ZoneCounter([INNER]), moving(make_frame, frames), step=0.125)
    assert [frame.zones["inner"].count for frame in counts] == [1] * 33 + [0]
    assert entered_and_left(counts[-2]) == (1, 0)
    assert entered_and_left(counts[-1]) == (1, 1)
    # Its stay ended when it was last seen.
    assert counts[-1].zones["inner"].departures[0].seconds == 2.0


def test_a_track_that_was_last_seen_at_the_border_of_the_frame_stops_to_count_at_once(make_frame):
    counts = run(ZoneCounter([LEFT]), moving(make_frame, [10, 5, 0, "-", "-", 2, *["-"] * 21]))
    assert [frame.zones["left"].count for frame in counts[:7]] == [1, 1, 1, 0, 0, 1, 1]
    assert entered_and_left(counts[-1], "left") == (1, 1)  # it came back with its id: no second visit


def test_a_class_that_flickers_does_not_come_and_go(make_frame):
    zone = Zone("inner", INNER.corners, classes=("pumpkin",))
    names = ("pumpkin", "gourd")
    frames = [make_frame([(1, 70, 50, 20)], class_ids=[one], names=names) for one in (0, 0, 1, 0, 1, 0)]
    counts = run(ZoneCounter([zone]), frames)
    assert entered_and_left(counts[-1]) == (1, 0)
    assert counts[-1].zones["inner"].entered == {"pumpkin": 1}


def test_the_frame_s_objects_are_its_confirmed_tracks(make_frame):
    frames = [make_frame([(1, 50, 50, 20), (None, 90, 50, 20)])] * 3 + [make_frame([])] * 21
    counts = run(ZoneCounter([]), frames)
    assert [[one.track_id for one in frame.objects] for frame in counts] == [[1]] * 23 + [[]]
    assert counts[2].objects[0].seconds == counts[10].objects[0].seconds == 0.2
    untracked = ZoneCounter([]).update(make_frame([(None, 90, 50, 20)], tracked=False), 0.0)
    assert [(one.track_id, one.label) for one in untracked.objects] == [(None, "pumpkin")]


# Lines.


def crossing(make_frame, ys, x=60, side=20, line=DOWN):
    """Counts of an object whose centroid is at ys."""
    frames = [make_frame([(1, x, round(y - side / 2), side)] if y != "-" else []) for y in ys]
    return run(ZoneCounter([line]), frames)


def test_a_line_counts_each_direction(make_frame):
    counts = crossing(make_frame, [*range(30, 100, 7), *range(100, 30, -7), *range(30, 100, 7)])
    assert in_and_out(counts[-1]) == (2, 1)
    at = [i for i, frame in enumerate(counts) if frame.lines["down"].crossings_in]
    assert [counts[i].lines["down"].crossings_in[0].track_id for i in at] == [1, 1]
    assert counts[-1].lines["down"].crossed_in == {"pumpkin": 2}


def test_down_is_in_for_a_line_drawn_from_left_to_right(make_frame):
    assert in_and_out(crossing(make_frame, [40, 80])[-1]) == (1, 0)
    reverse = Line("down", [160, 60, 0, 60])
    assert in_and_out(crossing(make_frame, [40, 80], line=reverse)[-1]) == (0, 1)


@pytest.mark.parametrize("sign", [1, -1])
def test_an_object_that_jitters_on_the_line_counts_once(make_frame, sign):
    jitter = [40, 50, *[60 + offset for offset in (-1, 1, 0, 1, -1, 1, -1, 0, 0, 1, -1)] * 3, 70, 80]
    counts = crossing(make_frame, [60 + sign * (y - 60) for y in jitter])
    assert in_and_out(counts[-1]) == ((1, 0) if sign > 0 else (0, 1))


def test_an_object_that_turns_back_on_the_line_does_not_count(make_frame):
    beyond = round(LINE_MARGIN * 20) - 1
    assert in_and_out(crossing(make_frame, [40, 55, 60 + beyond, 55, 60 + beyond, 40])[-1]) == (0, 0)


def test_an_object_that_appears_on_the_line_does_not_count(make_frame):
    assert in_and_out(crossing(make_frame, [60, 59, 70, 80])[-1]) == (0, 0)
    assert in_and_out(crossing(make_frame, [60, 59, 70, 80, 40])[-1]) == (0, 1)


def test_an_object_that_is_hidden_on_the_line_counts(make_frame):
    assert in_and_out(crossing(make_frame, [40, 50, "-", "-", "-", 80])[-1]) == (1, 0)


def test_an_object_that_jumps_counts_where_it_passed(make_frame):
    line = Line("down", [50, 60, 90, 60])
    assert in_and_out(crossing(make_frame, [20, 100], line=line)[-1]) == (1, 0)


def test_the_way_around_the_end_of_a_line_does_not_count(make_frame):
    line = Line("down", [50, 60, 90, 60])
    around = [(60, 30), (100, 40), (120, 60), (100, 80), (60, 90)]
    counts = run(ZoneCounter([line]), [make_frame([(1, x, y - 10, 20)]) for x, y in around])
    assert in_and_out(counts[-1]) == (0, 0)
    back = run(ZoneCounter([line]), [make_frame([(1, x, y - 10, 20)]) for x, y in [*around, (60, 60), (60, 30)]])
    assert in_and_out(back[-1]) == (0, 1)


def test_a_slanting_line_counts_by_the_exact_centroid(make_frame):
    line = Line("down", [0, 0, 160, 120])
    frames = [make_frame([(1, 100 - 10 * i, 20 + 5 * i, 12)], shape="disc") for i in range(9)]
    counts = run(ZoneCounter([line]), frames)
    assert in_and_out(counts[-1]) == (1, 0)  # from above the diagonal to below it
    assert in_and_out(run(ZoneCounter([line]), frames[::-1])[-1]) == (0, 1)


def test_a_line_counts_the_classes_that_it_names(make_frame):
    line = Line("down", DOWN.ends, classes=("gourd",))
    frames = [
        make_frame([(1, 20, y, 20), (2, 80, y, 20)], class_ids=[0, 1], names=("pumpkin", "gourd")) for y in (20, 90)
    ]
    counts = run(ZoneCounter([line]), frames)
    assert counts[-1].lines["down"].crossed_in == {"gourd": 1}


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(15, 105), min_size=2, max_size=25))
def test_crossings_alternate_and_agree_with_where_the_object_is(make_frame, ys):
    counts = crossing(make_frame, ys)
    crossed_in, crossed_out = in_and_out(counts[-1])
    assert abs(crossed_in - crossed_out) <= 1
    # A band of a tenth of the object's side on either side of the line decides nothing.
    sides = [y > 60 for y in ys if abs(y - 60) >= 2]
    changes = [now for before, now in pairwise(sides) if before != now]
    assert (crossed_in, crossed_out) == (changes.count(True), changes.count(False))


def test_lines_need_track_ids(make_frame):
    with pytest.raises(OptionError, match="line down needs track ids: track the frames first"):
        ZoneCounter([DOWN]).update(make_frame([], tracked=False), 0.0)


# Gaps, restarts, other frames.


def test_after_a_gap_what_is_still_inside_does_not_enter_again(make_frame):
    counter = ZoneCounter([INNER, DOWN])
    two = [(1, 50, 35, 20), (2, 90, 35, 20)]
    run(counter, [make_frame(two)] * 3)
    # One of them is there again under another id, below the line, the other is gone, a third comes later.
    later = [[(11, 50, 65, 20)]] * 25 + [[(11, 50, 65, 20), (12, 90, 65, 20)]]
    counts = run(counter, [make_frame(objects) for objects in later], start=60.0)
    assert [entered_and_left(frame) for frame in counts[:20]] == [(2, 0)] * 20
    assert entered_and_left(counts[24]) == (2, 1)
    assert entered_and_left(counts[25]) == (3, 1)
    assert counts[25].zones["inner"].count == 2
    assert in_and_out(counts[-1]) == (0, 0)  # what happened in the gap is not guessed
    assert counts[-1].zones["inner"].max_dwell == pytest.approx(0.2)


def test_a_time_that_goes_back_is_a_gap(make_frame):
    counter = ZoneCounter([INNER, DOWN])
    run(counter, [make_frame([(1, 50, 35, 20)])] * 3, start=100.0)
    counts = run(counter, [make_frame([(1, 50, 65, 20)])] * 3)
    assert entered_and_left(counts[-1]) == (1, 0)
    assert in_and_out(counts[-1]) == (0, 0)


def test_counts_survive_a_restart(make_frame):
    counter = ZoneCounter([INNER, DOWN])
    frames = [make_frame([(1, 60, y, 20), (2, 90, 70, 20)]) for y in range(0, 70, 5)]
    before = run(counter, frames)[-1]
    state = json.loads(json.dumps(counter.state()))
    again = ZoneCounter([INNER, DOWN, Zone("new", LEFT.corners)], state=state)
    assert again.state()["zones"]["inner"] == state["zones"]["inner"]
    # The tracker counts its ids from 1 again.
    counts = run(again, [make_frame([(2, 60, 65, 20), (1, 90, 70, 20)])] * 30)[-1]
    assert entered_and_left(before) == entered_and_left(counts) == (2, 0)
    assert in_and_out(before) == in_and_out(counts) == (1, 0)
    assert counts.zones["inner"].count == 2
    assert entered_and_left(counts, "new") == (1, 0)


def test_what_is_gone_after_a_restart_has_left(make_frame):
    counter = ZoneCounter([INNER])
    run(counter, [make_frame([(1, 60, 50, 20)])] * 3)
    again = ZoneCounter([INNER], state=counter.state())
    counts = run(again, [make_frame([])] * 25)
    assert entered_and_left(counts[0]) == (1, 0)
    assert entered_and_left(counts[-1]) == (1, 1)


def test_a_slow_camera_s_tracks_are_found_again_when_they_get_their_ids(make_frame):
    counter = ZoneCounter([INNER])
    run(counter, [make_frame([(1, 60, 50, 20)])] * 3)
    # A tracker confirms a track in its third frame, here after four seconds.
    frames = [make_frame([(one, 60, 50, 20)]) for one in (None, None, 1, 1)]
    counts = run(ZoneCounter([INNER], state=counter.state()), frames, step=2.0)
    assert [entered_and_left(frame) for frame in counts] == [(1, 0)] * 4


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"size": None, "zones": {"inner": {}}, "lines": {}},
        {"size": [1], "zones": {}, "lines": {}},
        [],
        {"size": None, "zones": {"inner": None}, "lines": {}},
    ],
)
def test_a_state_of_something_else_is_refused(state):
    with pytest.raises(OptionError, match="not the state of a ZoneCounter"):
        ZoneCounter([INNER], state=state)


def test_totals_start_anew_at_a_reset(make_frame):
    counter = ZoneCounter([INNER, DOWN])
    run(counter, [make_frame([(1, 60, y, 20)]) for y in range(0, 70, 5)])
    counter.reset()
    counts = counter.update(make_frame([(1, 60, 70, 20)]), 1.5)
    assert entered_and_left(counts) == (0, 0)
    assert in_and_out(counts) == (0, 0)
    assert counts.zones["inner"].count == 1


def test_a_frame_of_another_size_scales_zones_in_pixels(make_frame):
    counter = ZoneCounter([INNER])
    first = counter.update(make_frame([(1, 40, 30, 20)]), 0.0)
    double = counter.update(make_frame([(1, 80, 60, 40)], size=(240, 320)), 0.1)
    assert first.zones["inner"].occupancy == double.zones["inner"].occupancy == 400 / 4800
    np.testing.assert_array_equal(double.zones["inner"].corners, 2 * first.zones["inner"].corners)
    assert entered_and_left(double) == (1, 0)
    # After a restart too.
    again = ZoneCounter([INNER], state=counter.state())
    assert again.update(make_frame([(1, 80, 60, 40)], size=(240, 320)), 0.0).zones["inner"].occupancy == 400 / 4800


def test_a_slow_camera_does_not_count_all_again(make_frame):
    counts = run(ZoneCounter([INNER]), [make_frame([(i, 60, 50, 20)]) for i in range(1, 9)], step=3.0)
    assert entered_and_left(counts[-1]) == (1, 0)


def test_memory_does_not_grow_with_the_tracks(make_frame):
    counter = ZoneCounter([INNER, DOWN])
    sizes = []
    for i in range(400):
        counter.update(make_frame([(i, 60, 50, 20)]), i / 10)
        sizes.append(len(pickle.dumps(counter)))
    assert max(sizes[300:]) < 1.2 * sizes[50]


def test_wrong_times_are_refused(make_frame):
    with pytest.raises(ValueError, match="a frame's time must be in seconds, got nan"):
        ZoneCounter([INNER]).update(make_frame([]), math.nan)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 130)), max_size=3), max_size=40))
def test_the_books_balance(make_frame, frames):
    """Whatever comes: those that entered and did not leave are inside."""
    counter = ZoneCounter([INNER])
    arrived, departed = Counter(), Counter()
    for i, objects in enumerate(frames):
        unique = dict(objects)
        counts = counter.update(make_frame([(one, x, 50, 20) for one, x in unique.items()]), i / 5)
        zone = counts.zones["inner"]
        arrived.update(one.track_id for one in zone.arrivals)
        departed.update(one.track_id for one in zone.departures)
        assert entered_and_left(counts) == (arrived.total(), departed.total())
        assert zone.count == arrived.total() - departed.total()
        assert all(0 <= arrived[one] - departed[one] <= 1 for one in arrived)
