"""Decides frame by frame which rules fire, from plain values and a clock that the caller reads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pumpseg.errors import OptionError
from pumpseg.watch.rules import STATES, Rule
from pumpseg.zones import LineCount, ZoneCounts, ZoneObject

REARM_SECONDS = 1.0
"""A rule about a state that has fired can fire again once the state has ended for so long."""
STATE_COOLDOWN = 60.0
"""Seconds, of rules about what lasts. What happens is counted by users: each time is an event."""
GAP_SECONDS = 10.0
"""After so long without a frame nothing is known of the time in between: what must last begins anew."""
_FORGET_SECONDS = 10.0  # a tracker does not bring ids back after that

_ADDED: Mapping[str, Sequence[str]] = {"crossed": ("crossed_in", "crossed_out"), "new object": ("count",)}

Value = float | int | str


@dataclass(frozen=True)
class NamedRule:
    """A rule as a user configured it. cooldown: seconds after it fired in which it does not fire again."""

    name: str
    rule: Rule
    cooldown: float = 0.0

    @classmethod
    def of(cls, name: str, rule: Rule, cooldown: float | None) -> NamedRule:
        """cooldown: None for the usual one, STATE_COOLDOWN of what lasts, and none of what happens."""
        usual = STATE_COOLDOWN if rule.subject in STATES else 0.0
        return cls(name, rule, usual if cooldown is None else cooldown)


@dataclass(frozen=True)
class Firing:
    """That a rule fired. values: what it measured, by name. track_ids: of the objects that caused it."""

    rule: str
    values: Mapping[str, Value]
    track_ids: tuple[int, ...] = ()


@dataclass
class _RuleState:
    """since: when the state of the rule began; ended: when it was first seen to be over, inf while it lasts.

    armed: whether it may fire. silent_until: end of the cool-down. waiting: what has happened in it so far. reported:
    tracks whose stay has fired or waits, and when they were last seen in it.
    """

    since: float = math.inf
    ended: float = math.inf
    armed: bool = True
    silent_until: float = -math.inf
    waiting: Firing | None = None
    reported: dict[int, float] = field(default_factory=dict)

    def step(self, now: float, duration: float, *, is_true: bool) -> bool:
        """Whether a rule about a state fires."""
        if not is_true:
            self.since, self.ended = math.inf, min(self.ended, now)
            self.armed = self.armed or now - self.ended >= REARM_SECONDS
            return False
        self.since, self.ended = min(self.since, now), math.inf
        return self.armed and now - self.since >= duration and now >= self.silent_until

    def pause(self) -> None:
        """Nothing is known of the time since the last frame."""
        self.since = self.ended = math.inf


class RuleEvaluator:
    """The rules of one camera.

    - A state (count, occupancy, camera lost) fires once it is true in every frame for the duration of its rule, and
      fires again only after it was false for REARM_SECONDS. If the cool-down holds it back, it fires at its end,
      provided that the state still lasts.
    - What happens (crossed, entered, left, new object, dwell once for every stay, camera back) fires with the frame in
      which it happens. What happens in the cool-down is gathered, and fires at its end all together: nothing is lost.
    - While the camera is lost, and between frames more than GAP_SECONDS apart, states of the picture are unknown: what
      must last begins anew, and no state ends.

    state: of an earlier evaluator, see `state`; now: the time on the clock that `evaluate` is given.
    Raises OptionError for two rules of one name, or another state.
    """

    def __init__(self, rules: Iterable[NamedRule], *, state: Mapping[str, Any] | None = None, now: float = 0.0) -> None:
        self._rules = tuple(rules)
        names = [named.name for named in self._rules]
        repeated = [name for name in names if names.count(name) > 1]
        if repeated:
            raise OptionError(f"there are two rules named {repeated[0]}: name each differently")
        self._states = {name: _RuleState() for name in names}
        self._now, self._last_frame = now, -math.inf
        self._lost_since = math.inf
        self._known: dict[int, float] = {}
        if state is not None:
            self._restore(state, now)

    def evaluate(self, now: float, counts: ZoneCounts | None) -> list[Firing]:
        """The rules that fire at `now`, in seconds of a monotonic clock, in their order.

        counts: of a frame that has arrived; None while the camera is lost, to be called about once a second.
        A time before the last counts as the last. Raises ValueError for a time that is not finite.
        """
        if not math.isfinite(now):
            raise ValueError(f"the time must be in seconds, got {now}")
        now = self._now = max(now, self._now)
        was_lost, self._lost_since = self._lost_since, min(self._lost_since, now) if counts is None else math.inf
        gap = counts is None or now - self._last_frame > GAP_SECONDS
        new = [] if counts is None else self._new_objects(counts)
        firings = []
        for named in self._rules:
            rule, state = named.rule, self._states[named.name]
            if gap and rule.subject != "camera lost":
                state.pause()
            if rule.subject == "camera lost":
                firing = Firing(named.name, {"seconds": now - self._lost_since}) if counts is None else None
            elif rule.subject == "camera back":
                back = counts is not None and was_lost < math.inf
                firing = Firing(named.name, {"seconds": now - was_lost}) if back else None
            else:
                firing = None if counts is None else self._seen(named, counts, new)
            if rule.subject in STATES:
                unknown = counts is None and rule.subject != "camera lost"
                fires = not unknown and state.step(now, rule.duration, is_true=firing is not None)
            else:
                firing = state.waiting = _together(rule, state.waiting, firing)
                fires = now >= state.silent_until
            if fires and firing is not None:
                state.armed, state.silent_until, state.waiting = False, now + named.cooldown, None
                firings.append(firing)
        self._last_frame = self._last_frame if counts is None else now
        return firings

    def state(self) -> dict[str, Any]:
        """What must survive a restart, as plain values for JSON: which rules have fired, are silent for how long, and
        what waits until then.
        """
        saved: dict[str, Any] = {}
        for name, state in self._states.items():
            saved[name] = {"armed": state.armed, "silent_for": max(0.0, state.silent_until - self._now)}
            if state.waiting is not None:
                saved[name]["waiting"] = {"values": dict(state.waiting.values), "track_ids": state.waiting.track_ids}
        return saved

    def _restore(self, saved: Mapping[str, Any], now: float) -> None:
        try:
            for name in self._states.keys() & saved.keys():
                armed, silent_for = bool(saved[name]["armed"]), float(saved[name]["silent_for"])
                waiting = saved[name].get("waiting")
                self._states[name] = _RuleState(
                    armed=armed,
                    silent_until=now + silent_for,
                    waiting=waiting and Firing(name, dict(waiting["values"]), tuple(map(int, waiting["track_ids"]))),
                )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise OptionError(f"not the state of a RuleEvaluator: {type(error).__name__} {error}") from None

    def _new_objects(self, counts: ZoneCounts) -> list[ZoneObject]:
        new = [one for one in counts.objects if one.track_id is not None and one.track_id not in self._known]
        self._known.update((one.track_id, self._now) for one in counts.objects if one.track_id is not None)
        self._known = {
            track_id: seen for track_id, seen in self._known.items() if self._last_frame - seen <= _FORGET_SECONDS
        }
        return new

    def _seen(self, named: NamedRule, counts: ZoneCounts, new: Sequence[ZoneObject]) -> Firing | None:
        """What a rule about the picture finds in a frame; None if it is not fulfilled."""
        rule = named.rule
        if rule.subject == "crossed":
            return self._crossed(named, counts.lines[rule.place or ""])
        if rule.place is None:
            objects = _of_classes(rule, new if rule.subject == "new object" else counts.objects)
            fulfilled = bool(objects) if rule.subject == "new object" else rule.compare(len(objects))
            return _firing(named, {"count": len(objects)}, objects) if fulfilled else None
        zone = counts.zones[rule.place]
        values: dict[str, Value] = {"zone": zone.name, "count": zone.count}
        objects = _of_classes(rule, zone.objects)
        if rule.subject == "count":
            values["count"] = len(objects)
            return _firing(named, values, objects) if rule.compare(len(objects)) else None
        if rule.subject == "occupancy":
            values["occupancy"] = zone.occupancy
            return _firing(named, values, objects) if rule.compare(zone.occupancy) else None
        if rule.subject == "dwell":
            long = self._staying(named, objects)
            values["seconds"] = max((one.seconds for one in long), default=0.0)
            return _firing(named, values, long) if long else None
        moved = _of_classes(rule, zone.arrivals if rule.subject == "entered" else zone.departures)
        values |= {"entered": sum(zone.entered.values()), "left": sum(zone.left.values())}
        return _firing(named, values, moved) if moved else None

    def _staying(self, named: NamedRule, objects: Sequence[ZoneObject]) -> list[ZoneObject]:
        """Objects that have stayed long enough, and have not been reported in this stay; they count as reported now."""
        reported = self._states[named.name].reported
        long = [one for one in objects if one.track_id is not None and named.rule.compare(one.seconds)]
        in_zone = {one.track_id for one in objects}
        over = {one.track_id for one in long}
        for track_id, seen in tuple(reported.items()):
            if track_id in over:
                reported[track_id] = self._now
            elif track_id in in_zone or self._now - seen > _FORGET_SECONDS:
                del reported[track_id]  # a new stay, or one that has ended
        long = [one for one in long if one.track_id not in reported]
        reported.update((one.track_id, self._now) for one in long if one.track_id is not None)
        return long

    def _crossed(self, named: NamedRule, line: LineCount) -> Firing | None:
        direction = named.rule.direction
        came_in = _of_classes(named.rule, line.crossings_in if direction != "out" else ())
        came_out = _of_classes(named.rule, line.crossings_out if direction != "in" else ())
        if not came_in and not came_out:
            return None
        values: dict[str, Value] = {
            "line": line.name,
            "crossed_in": len(came_in),
            "crossed_out": len(came_out),
            "in": sum(line.crossed_in.values()),
            "out": sum(line.crossed_out.values()),
        }
        return _firing(named, values, [*came_in, *came_out])


def _together(rule: Rule, before: Firing | None, firing: Firing | None) -> Firing | None:
    """What has happened twice as one: with the newest values, but numbers of objects added up, and the longest time."""
    if before is None or firing is None:
        return before or firing
    values = dict(firing.values)
    for name in _ADDED.get(rule.subject, ()):
        values[name] = _number(before, name) + _number(firing, name)
    if "seconds" in values:
        values["seconds"] = max(_number(before, "seconds"), _number(firing, "seconds"))
    return Firing(firing.rule, values, tuple(dict.fromkeys((*before.track_ids, *firing.track_ids))))


def _number(firing: Firing, name: str) -> float:
    value = firing.values.get(name, 0)  # missing in what waited over a restart with another rule of this name
    return 0 if isinstance(value, str) else value


def _of_classes(rule: Rule, objects: Iterable[ZoneObject]) -> list[ZoneObject]:
    return [one for one in objects if not rule.classes or one.label in rule.classes]


def _firing(named: NamedRule, values: Mapping[str, Value], objects: Iterable[ZoneObject]) -> Firing:
    return Firing(named.name, values, tuple(one.track_id for one in objects if one.track_id is not None))
