"""Zones and lines in the picture: what their masks cover, who enters and leaves, who crosses."""

from pumpseg.zones.counter import ZoneCounter
from pumpseg.zones.counts import LineCount, ZoneCount, ZoneCounts, ZoneObject
from pumpseg.zones.shapes import Line, Zone

__all__ = ["Line", "LineCount", "Zone", "ZoneCount", "ZoneCounter", "ZoneCounts", "ZoneObject"]
