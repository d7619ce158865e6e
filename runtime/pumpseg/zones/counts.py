"""What the zones and lines of one frame hold, and what they have counted so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True)
class ZoneObject:
    """An object in a zone, or one that entered, left or crossed. track_id: None without a tracker.

    label: its class; of a track the one that it was seen as most often. seconds: since it entered the zone until it was
    last seen there, 0 without a tracker.
    """

    track_id: int | None
    label: str
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class ZoneCount:
    """One zone in one frame.

    objects: in the zone now. occupancy: share of the zone's pixels that masks cover, 0..1. arrivals, departures:
    objects that entered or left with this frame. entered, left: how many did so far, by class. stays: of those that
    left: how many were timed. dwell_seconds, max_dwell: how long these stayed in all, and the longest. corners: (K, 2),
    x y in pixels of this frame. max_count, mean_occupancy, max_occupancy: of all frames so far.
    """

    name: str
    corners: NDArray[Any]
    objects: tuple[ZoneObject, ...]
    occupancy: float
    arrivals: tuple[ZoneObject, ...]
    departures: tuple[ZoneObject, ...]
    entered: Mapping[str, int]
    left: Mapping[str, int]
    stays: int
    dwell_seconds: float
    max_dwell: float
    max_count: int
    mean_occupancy: float
    max_occupancy: float

    @property
    def count(self) -> int:
        """How many objects are in the zone now."""
        return len(self.objects)

    @property
    def mean_dwell(self) -> float:
        """Seconds that those who left had stayed on average; 0 if nobody did."""
        return self.dwell_seconds / self.stays if self.stays else 0.0


@dataclass(frozen=True, eq=False)
class LineCount:
    """One line in one frame.

    crossings_in, crossings_out: objects that crossed it with this frame. crossed_in, crossed_out: how many did so far,
    by class. ends: (2, 2), x y in pixels of this frame.
    """

    name: str
    ends: NDArray[Any]
    crossings_in: tuple[ZoneObject, ...]
    crossings_out: tuple[ZoneObject, ...]
    crossed_in: Mapping[str, int]
    crossed_out: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class ZoneCounts:
    """One frame's objects, and its zones and lines by name.

    objects: in the frame now, with a tracker the confirmed ones; seconds is since each was first seen. tracked: whether
    the frame's objects have track ids.
    """

    objects: tuple[ZoneObject, ...]
    zones: Mapping[str, ZoneCount]
    lines: Mapping[str, LineCount]
    tracked: bool

    def to_json(self) -> dict[str, Any]:
        """This frame as plain values for JSON; seconds to a millisecond.

        Of a zone "count" and "occupancy", with a tracker also "entered" and "left" so far, "track_ids" of the objects
        in it and their "dwell" in seconds. Of a line "in" and "out" so far, and the track ids of "crossed_in" and
        "crossed_out" with this frame.
        """
        zones: dict[str, dict[str, Any]] = {}
        for name, zone in self.zones.items():
            zones[name] = {"count": zone.count, "occupancy": round(zone.occupancy, 6)}
            if self.tracked:
                zones[name] |= {
                    "entered": sum(zone.entered.values()),
                    "left": sum(zone.left.values()),
                    "track_ids": [one.track_id for one in zone.objects],
                    "dwell": [round(one.seconds, 3) for one in zone.objects],
                }
        lines = {
            name: {
                "in": sum(line.crossed_in.values()),
                "out": sum(line.crossed_out.values()),
                "crossed_in": [one.track_id for one in line.crossings_in],
                "crossed_out": [one.track_id for one in line.crossings_out],
            }
            for name, line in self.lines.items()
        }
        return {"zones": zones, "lines": lines}

    def totals(self) -> dict[str, Any]:
        """What was counted so far as plain values for JSON, by class where it counts objects; see `ZoneCount`."""
        zones: dict[str, dict[str, Any]] = {}
        for name, zone in self.zones.items():
            zones[name] = {
                "count": zone.count,
                "max_count": zone.max_count,
                "occupancy": zone.occupancy,
                "mean_occupancy": zone.mean_occupancy,
                "max_occupancy": zone.max_occupancy,
            }
            if self.tracked:
                zones[name] |= {
                    "entered": dict(zone.entered),
                    "left": dict(zone.left),
                    "mean_dwell": zone.mean_dwell,
                    "max_dwell": zone.max_dwell,
                }
        lines = {
            name: {"in": dict(line.crossed_in), "out": dict(line.crossed_out)} for name, line in self.lines.items()
        }
        return {"zones": zones, "lines": lines}
