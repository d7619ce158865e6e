import json
import math
import pickle
from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pumpseg.errors import OptionError
from pumpseg.watch.rule_evaluator import GAP_SECONDS, REARM_SECONDS, STATE_COOLDOWN, NamedRule, RuleEvaluator
from pumpseg.watch.rules import parse_rule
from pumpseg.zones import LineCount, ZoneCount, ZoneCounts, ZoneObject

STEP = 0.125


def objects(*ids, label="pumpkin", seconds=0.0):
    return tuple(ZoneObject(one, label, seconds) for one in ids)


def frame(inside=(), *, all_objects=None, occupancy=0.0, arrivals=(), departures=(), crossed_in=(), crossed_out=()):
    """The counts of a frame with one zone, gate, and one line, road."""
    seen = (tuple(inside), occupancy, arrivals, departures)
    zone = ZoneCount("gate", np.zeros((4, 2)), *seen, {}, {}, 0, 0.0, 0.0, 0, 0.0, 0.0)
    line = LineCount("road", np.zeros((2, 2)), crossed_in, crossed_out, {"pumpkin": 7}, {})
    return ZoneCounts(tuple(inside if all_objects is None else all_objects), {"gate": zone}, {"road": line}, True)


def evaluator(text, cooldown=0.0, **more):
    return RuleEvaluator([NamedRule("rule", parse_rule(text), cooldown)], **more)


def times_fired(rules, frames, step=STEP, start=0.0):
    """When the rule fired; frames: counts, or None while the camera is lost."""
    return [start + step * i for i, counts in enumerate(frames) if rules.evaluate(start + step * i, counts)]


ONE, TWO, THREE, NONE = frame(objects(1)), frame(objects(1, 2)), frame(objects(1, 2, 3)), frame()


def seconds(duration, counts):
    return [counts] * round(duration / STEP)


def test_a_state_fires_when_it_has_lasted_and_not_again():
    rules = evaluator("count(gate) >= 2 for 5 s")
    assert times_fired(rules, [*seconds(1, ONE), *seconds(20, TWO), *seconds(20, THREE)]) == [6.0]


def test_a_state_must_be_true_in_every_frame():
    assert times_fired(evaluator("count(gate) >= 2 for 5 s"), [*seconds(4.5, TWO), ONE, *seconds(4.5, TWO)]) == []


def test_without_a_duration_a_state_fires_at_once():
    firings = evaluator("count(gate) >= 2").evaluate(0.0, TWO)
    assert [firing.rule for firing in firings] == ["rule"]
    assert firings[0].values == {"zone": "gate", "count": 2}
    assert firings[0].track_ids == (1, 2)


def test_a_state_fires_again_after_it_has_ended():
    flicker = [TWO, ONE] * 20
    assert times_fired(evaluator("count(gate) >= 2"), flicker) == [0.0]
    ended = [TWO, *seconds(REARM_SECONDS, ONE), ONE, TWO]
    assert times_fired(evaluator("count(gate) >= 2"), ended) == [0.0, REARM_SECONDS + 2 * STEP]
    not_ended = [TWO, *seconds(REARM_SECONDS, ONE), TWO]
    assert times_fired(evaluator("count(gate) >= 2"), not_ended) == [0.0]


def test_a_state_that_the_cool_down_holds_back_fires_at_its_end():
    rules = evaluator("count(gate) >= 2", cooldown=10)
    again = [TWO, *seconds(2, ONE), *seconds(20, TWO)]
    assert times_fired(rules, again) == [0.0, 10.0]
    gone = [TWO, *seconds(2, ONE), *seconds(2, TWO), *seconds(20, ONE)]
    assert times_fired(evaluator("count(gate) >= 2", cooldown=10), gone) == [0.0]


def test_while_the_camera_is_lost_nothing_is_known_of_the_picture():
    rules = evaluator("count(gate) >= 2 for 5 s")
    lost = [*seconds(4, TWO), *seconds(3, None), *seconds(6, TWO)]
    assert times_fired(rules, lost) == [12.0]  # 5 s after it was back
    # The state has not ended meanwhile: no second event for the same crowd.
    assert times_fired(rules, [*seconds(60, None), *seconds(20, TWO)], start=13.0) == []
    assert times_fired(rules, [*seconds(2, ONE), *seconds(6, TWO)], start=100.0) == [107.0]


def test_frames_that_are_far_apart_say_nothing_about_the_time_between():
    rules = evaluator("count(gate) >= 2 for 15 s")
    assert times_fired(rules, [TWO] * 5, step=GAP_SECONDS + 1) == []
    assert times_fired(rules, [TWO] * 5, step=GAP_SECONDS, start=1000.0) == [1020.0]


def test_occupancy_fires_with_the_share_and_who_is_there():
    (firing,) = evaluator("occupancy(gate) > 60%").evaluate(0.0, frame(objects(4), occupancy=0.61))
    assert firing.values == {"zone": "gate", "count": 1, "occupancy": 0.61}
    assert firing.track_ids == (4,)
    assert evaluator("occupancy(gate) > 60%").evaluate(0.0, frame(occupancy=0.6)) == []


def test_classes_are_counted_alone():
    mixed = frame(objects(1, 2) + objects(3, label="gourd"))
    (firing,) = evaluator("count(gate) of gourd == 1").evaluate(0.0, mixed)
    assert (firing.values["count"], firing.track_ids) == (1, (3,))
    assert evaluator("count(gate) of pumpkin == 3").evaluate(0.0, mixed) == []
    assert evaluator("count(gate) of pumpkin, gourd == 3").evaluate(0.0, mixed)


def test_count_without_a_zone_is_that_of_the_frame():
    whole = frame((), all_objects=objects(1, 2, 3))
    (firing,) = evaluator("count >= 3").evaluate(0.0, whole)
    assert (firing.values, firing.track_ids) == ({"count": 3}, (1, 2, 3))


def test_crossings_fire_with_their_frame():
    crossing = frame(crossed_in=objects(5), crossed_out=objects(6))
    for text, ids in (("crossed(road)", (5, 6)), ("crossed(road) in", (5,)), ("crossed(road) out", (6,))):
        (firing,) = evaluator(text).evaluate(0.0, crossing)
        assert firing.track_ids == ids
        assert firing.values["line"] == "road"
        assert firing.values["in"] == 7
    assert evaluator("crossed(road) of gourd").evaluate(0.0, crossing) == []
    frames = [NONE, crossing, NONE, crossing, crossing]
    assert times_fired(evaluator("crossed(road) in"), frames) == [STEP, 3 * STEP, 4 * STEP]


def test_what_happens_in_the_cool_down_is_one_event_at_its_end():
    one, two = frame(crossed_in=objects(5)), frame(crossed_in=objects(6, 7), crossed_out=objects(5))
    rules = evaluator("crossed(road)", cooldown=1.0)
    fired = {STEP * i: rules.evaluate(STEP * i, seen) for i, seen in enumerate([one, two, one, *[NONE] * 20, one])}
    assert [time for time, firings in fired.items() if firings] == [0.0, 1.0, 23 * STEP]
    (gathered,) = fired[1.0]
    assert gathered.track_ids == (6, 7, 5)
    assert gathered.values == {"line": "road", "crossed_in": 3, "crossed_out": 1, "in": 7, "out": 0}
    (alone,) = fired[23 * STEP]
    assert (alone.values["crossed_in"], alone.track_ids) == (1, (5,))


@pytest.mark.parametrize(
    ("text", "frames", "expected"),
    [
        ("entered(gate)", [frame(arrivals=objects(one)) for one in (1, 2, 3)], ({"count": 0}, (2, 3))),
        ("new object", [frame(objects(one)) for one in (1, 2, 3)], ({"count": 2}, (2, 3))),
        (
            "dwell(gate) > 1 s",
            [frame(objects(one, seconds=6.0 - one)) for one in (1, 2, 3)],
            ({"seconds": 4.0}, (2, 3)),
        ),
        ("camera back", [None, NONE, None, None, NONE, None, NONE], ({"seconds": 2 * STEP}, ())),
    ],
)
def test_everything_that_happens_in_the_cool_down_is_reported(text, frames, expected):
    rules = evaluator(text, cooldown=2.0)
    fired = [rules.evaluate(STEP * i, seen) for i, seen in enumerate([*frames, *[NONE] * 20])]
    (_,), (gathered,) = [firings for firings in fired if firings]
    values, track_ids = expected
    assert {name: gathered.values[name] for name in values} == values
    assert gathered.track_ids == track_ids


def test_what_waits_for_the_end_of_the_cool_down_is_reported_while_the_camera_is_lost():
    rules = evaluator("crossed(road) in", cooldown=1.0)
    crossing = frame(crossed_in=objects(5))
    assert times_fired(rules, [crossing, crossing, *seconds(2, None)]) == [0.0, 1.0]


def test_what_waits_for_the_end_of_the_cool_down_survives_a_restart():
    rules = evaluator("crossed(road)", cooldown=10.0)
    assert times_fired(rules, [frame(crossed_in=objects(4)), frame(crossed_in=objects(5, 6))]) == [0.0]
    state = json.loads(json.dumps(rules.state()))
    again = evaluator("crossed(road)", cooldown=10.0, state=state)
    fired = [again.evaluate(time, seen) for time, seen in ((1.0, frame(crossed_out=objects(1))), (9.9, NONE))]
    assert [firing.values["crossed_in"] for firings in fired for firing in firings] == [2]
    assert [firing.track_ids for firings in fired for firing in firings] == [(5, 6, 1)]
    # A rule of the same name may be another one by now.
    for text in ("new object", "dwell(gate) > 1 s", "count >= 1"):
        other = evaluator(text, state=state)
        other.evaluate(11.0, frame(objects(8, seconds=3.0)))


def test_by_default_only_what_lasts_has_a_cool_down():
    lasting = ("count >= 3", "occupancy(gate) > 60%", "camera lost")
    happening = ("crossed(road)", "entered(gate)", "left(gate)", "dwell(gate) > 1 s", "new object", "camera back")
    assert {NamedRule.of("rule", parse_rule(text), None).cooldown for text in lasting} == {STATE_COOLDOWN}
    assert {NamedRule.of("rule", parse_rule(text), None).cooldown for text in happening} == {0.0}
    assert NamedRule.of("rule", parse_rule("crossed(road)"), 5.0).cooldown == 5.0


def test_arrivals_and_departures_fire():
    (firing,) = evaluator("entered(gate)").evaluate(0.0, frame(objects(9), arrivals=objects(9)))
    assert firing.track_ids == (9,)
    assert evaluator("left(gate)").evaluate(0.0, frame(arrivals=objects(9))) == []
    assert evaluator("left(gate)").evaluate(0.0, frame(departures=objects(9)))[0].track_ids == (9,)


def test_new_objects_fire_once_each():
    rules = evaluator("new object of pumpkin")
    seen = [(), (1,), (1, 2), (), (2,), (2,), (3, 4)]
    fired = [rules.evaluate(time, frame(objects(*ids))) for time, ids in enumerate(seen)]
    assert [[firing.track_ids for firing in firings] for firings in fired] == [[], [(1,)], [(2,)], [], [], [], [(3, 4)]]
    assert rules.evaluate(7.0, frame(objects(5, label="gourd"))) == []


def test_memory_does_not_grow_with_the_objects():
    rules = RuleEvaluator([NamedRule(text, parse_rule(text)) for text in ("new object", "dwell(gate) > 1 s")])
    sizes = []
    for i in range(1000):
        rules.evaluate(i / 5, frame(objects(i, seconds=2.0)))
        sizes.append(len(pickle.dumps(rules)))
    assert max(sizes[500:]) < 1.2 * sizes[100]


def stay(track_id, durations):
    return [frame(objects(track_id, seconds=one)) for one in durations]


def test_dwell_fires_once_for_every_stay():
    rules = evaluator("dwell(gate) > 1 s")
    first = [*stay(1, [0.0, 0.5, 1.0, 1.5, 2.0]), frame(departures=objects(1, seconds=2.0))]
    assert times_fired(rules, [*first, *first]) == [3 * STEP, 9 * STEP]


def test_dwell_fires_for_each_object():
    rules = evaluator("dwell(gate) >= 1 s")
    both = frame(objects(1, seconds=3.0) + objects(2, seconds=1.0))
    fired = [rules.evaluate(time, counts) for time, counts in enumerate([*stay(1, [0.9, 2.0]), both, both])]
    assert [[firing.track_ids for firing in firings] for firings in fired] == [[], [(1,)], [(2,)], []]
    assert fired[2][0].values == {"zone": "gate", "count": 2, "seconds": 1.0}


def test_an_object_that_is_unseen_for_a_moment_is_not_reported_again():
    rules = evaluator("dwell(gate) > 1 s")
    frames = [frame(objects(1, seconds=1.1)), NONE, NONE, frame(objects(1, seconds=1.4)), NONE]
    assert times_fired(rules, frames) == [0.0]


def test_a_lost_camera_fires_once_and_so_does_its_return():
    lost, back = evaluator("camera lost for 2 s"), evaluator("camera back")
    frames = [NONE, *seconds(5, None), *seconds(5, NONE), None, *seconds(3, NONE)]
    assert times_fired(lost, frames) == [STEP + 2.0]
    assert times_fired(back, frames) == [STEP + 5.0, STEP + 10.0 + STEP]
    again = evaluator("camera lost")
    assert again.evaluate(10.0, None)[0].values == {"seconds": 0.0}
    assert again.evaluate(11.0, None) == []
    assert evaluator("camera back").evaluate(0.0, NONE) == []


def test_rules_are_evaluated_in_their_order():
    rules = RuleEvaluator([NamedRule(name, parse_rule("count >= 1")) for name in ("b", "a", "c")])
    assert [firing.rule for firing in rules.evaluate(0.0, ONE)] == ["b", "a", "c"]


def test_a_restart_fires_no_second_time():
    rules = evaluator("count(gate) >= 2", cooldown=60)
    assert times_fired(rules, [TWO] * 9) == [0.0]
    state = json.loads(json.dumps(rules.state()))
    assert state == {"rule": {"armed": False, "silent_for": 59.0}}
    # The clock begins anew.
    again = evaluator("count(gate) >= 2", cooldown=60, state=state, now=5.0)
    assert times_fired(again, [TWO] * 5, start=5.0) == []
    assert times_fired(again, [*seconds(2, ONE), *seconds(70, TWO)], start=6.0) == [64.0]
    assert json.loads(json.dumps(evaluator("count >= 1").state())) == {"rule": {"armed": True, "silent_for": 0.0}}


def test_wrong_input_is_refused():
    with pytest.raises(OptionError, match="two rules named rule"):
        RuleEvaluator([NamedRule("rule", parse_rule("count > 1"))] * 2)
    for state in ({"rule": {}}, {"rule": 3}, 3):
        with pytest.raises(OptionError, match="not the state of a RuleEvaluator"):
            evaluator("count > 1", state=state)
    with pytest.raises(ValueError, match="the time must be in seconds, got nan"):
        evaluator("count > 1").evaluate(math.nan, None)


def test_a_clock_that_goes_back_stands_still():
    rules = evaluator("count(gate) >= 2 for 5 s")
    assert times_fired(rules, [TWO] * 8, step=-1.0, start=100.0) == []
    assert [time for time in (101.0, 104.0, 105.0) if rules.evaluate(time, TWO)] == [105.0]


VALUES = st.lists(st.tuples(st.integers(1, 8), st.sampled_from([0, 1, 2, 3, None])), max_size=60)


@given(VALUES, st.sampled_from([0.0, 0.5, 2.0]), st.sampled_from([0.0, 3.0]))
def test_whatever_is_seen_a_state_fires_only_when_it_should(steps, duration, cooldown):
    rules = evaluator(f"count(gate) >= 2{f' for {duration} s' if duration else ''}", cooldown)
    now, last_fired, seen = 0.0, -math.inf, []
    for eighths, number in steps:
        now += eighths / 8
        fired = rules.evaluate(now, None if number is None else frame(objects(*range(number))))
        seen.append((now, number))
        if not fired:
            continue
        assert now - last_fired >= cooldown
        # True in every frame for the duration, without a loss.
        run = [time for time, value in reversed(seen) if value is not None and value >= 2]
        unbroken = next((i for i, (_, value) in enumerate(reversed(seen)) if value is None or value < 2), len(seen))
        assert unbroken >= 1
        assert now - run[unbroken - 1] >= duration
        # Since it fired last, it was false for REARM_SECONDS at a stretch of frames.
        since = [(time, value) for time, value in seen if last_fired < time < now]
        stretches = [
            end - begin
            for i, (begin, _) in enumerate(since)
            for j, (end, _) in enumerate(since[i:], i)
            if all(value is not None and value < 2 for _, value in since[i : j + 1])
        ]
        assert last_fired == -math.inf or max(stretches, default=0.0) >= REARM_SECONDS
        last_fired = now


@given(st.lists(st.booleans(), max_size=80))
def test_a_value_that_flickers_faster_than_a_second_fires_once(flicker):
    frames = [TWO if on or i % 7 == 0 else ONE for i, on in zip(count(), flicker)]
    assert len(times_fired(evaluator("count(gate) >= 2"), frames)) == (1 if flicker else 0)
