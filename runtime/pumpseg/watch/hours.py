"""When a camera is watched: hours of the day and days of the week, in local time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_RANGE = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)")
_DAY = 24 * 60


@dataclass(frozen=True)
class Hours:
    """A time of every day. start, end: in minutes; an end that is not after the start is on the next day."""

    start: int
    end: int

    @classmethod
    def parse(cls, text: str) -> Hours:
        """From HH:MM-HH:MM, up to 24:00. Raises ValueError."""
        found = _RANGE.fullmatch(text)
        if found is not None:
            hour, minute, end_hour, end_minute = map(int, found.groups())
            start, end = 60 * hour + minute, 60 * end_hour + end_minute
            if minute < 60 and end_minute < 60 and start < _DAY and end <= _DAY and start != end:
                return cls(start, end)
        raise ValueError("must be HH:MM-HH:MM, such as 06:00-20:00 or 22:00-04:00")


@dataclass(frozen=True)
class Schedule:
    """Hours on days, numbered from Monday, 0; empty: all."""

    hours: tuple[Hours, ...] = ()
    days: frozenset[int] = frozenset()

    @classmethod
    def parse(cls, hours: Sequence[str], days: Sequence[str]) -> Schedule:
        return cls(tuple(Hours.parse(text) for text in hours), frozenset(DAYS.index(day) for day in days))

    def is_on(self, now: datetime) -> bool:
        """Whether a local time is in the schedule; hours past midnight belong to the day on which they begin."""
        minutes = 60 * now.hour + now.minute
        today, yesterday = self._has_day(now), self._has_day(now - timedelta(days=1))
        if not self.hours:
            return today
        return any(
            (today and one.start <= minutes and (minutes < one.end or one.end <= one.start))
            or (yesterday and one.end <= one.start and minutes < one.end)
            for one in self.hours
        )

    def _has_day(self, moment: datetime) -> bool:
        return not self.days or moment.weekday() in self.days
