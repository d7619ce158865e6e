"""Hours and days in which a camera is watched."""

from datetime import datetime

import pytest

from pumpseg.watch.hours import Hours, Schedule

FRIDAY, SATURDAY, SUNDAY = 27, 28, 29


def at(day, hour, minute=0):
    return datetime(2026, 11, day, hour, minute)


@pytest.mark.parametrize("text", ["6-12", "06:00", "24:00-06:00", "06:60-07:00", "06:00-06:00", "06:00-25:00", ""])
def test_wrong_hours_are_refused(text):
    with pytest.raises(ValueError, match="must be HH:MM-HH:MM"):
        Hours.parse(text)


def test_no_hours_and_days_are_always():
    assert Schedule.parse([], []).is_on(at(SATURDAY, 3))


def test_hours_begin_and_end_to_the_minute():
    schedule = Schedule.parse(["06:00-12:00", "13:30-24:00"], [])
    on = [
        schedule.is_on(at(SATURDAY, *time)) for time in ((5, 59), (6, 0), (11, 59), (12, 0), (13, 30), (23, 59), (0, 0))
    ]
    assert on == [False, True, True, False, True, True, False]


def test_a_night_belongs_to_the_day_on_which_it_begins():
    schedule = Schedule.parse(["22:00-04:00"], ["sat"])
    assert [schedule.is_on(at(FRIDAY, 23)), schedule.is_on(at(SATURDAY, 3)), schedule.is_on(at(SATURDAY, 22))] == [
        False,
        False,
        True,
    ]
    assert [schedule.is_on(at(SUNDAY, 3, 59)), schedule.is_on(at(SUNDAY, 4)), schedule.is_on(at(SUNDAY, 22))] == [
        True,
        False,
        False,
    ]


def test_days_alone_are_whole_days():
    schedule = Schedule.parse([], ["fri", "sun"])
    assert [schedule.is_on(at(day, 0)) for day in (FRIDAY, SATURDAY, SUNDAY)] == [True, False, True]
