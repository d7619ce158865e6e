"""Counts by the exact mask what is in zones, enters and leaves them, and crosses lines, frame by frame."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pumpseg.errors import OptionError
from pumpseg.instances import UNCONFIRMED, Instances
from pumpseg.masks.paste import CropMask, shared_pixels
from pumpseg.opencv import cv2
from pumpseg.zones.counts import LineCount, ZoneCount, ZoneCounts, ZoneObject
from pumpseg.zones.shapes import Line, Shape, Zone, check_classes, check_names, on_frame, zone_mask

HOLD_SECONDS = 2.0
"""How long an unseen track keeps its place, as long as `Tracker` keeps its id; a longer gap between frames ends all."""
SHARE_MARGIN = 0.1
"""A track leaves a zone only when its share is lower by this than the one with which it enters (half of it at most)."""
LINE_MARGIN = 0.1
"""A track has changed sides when its centroid is this far behind the line, in sizes (the root of its mask's area)."""
_MIN_LINE_MARGIN = 1.0  # pixels
_RESUMING_FRAMES = 5  # in which a slow camera's tracks get their ids

Labels = Counter[str]


@dataclass
class _Stay:
    """Of a track in a zone: when it entered and when it was last seen there."""

    since: float
    last: float


@dataclass
class _Side:
    """Of a track at a line: the side it was last surely on (-1, 1; 0 unknown), and how it last changed sides since.

    through: between the line's ends, not around them. beside: the side on which its whole box was when last seen,
    farther than LINE_MARGIN from the line; 0 if it was not.
    """

    settled: int = 0
    beside: int = 0
    through: bool = False


@dataclass
class _Track:
    """What is known of a track, seen first and last at these times.

    mask: when it was last seen. at_border: its box touched the frame's border.
    """

    track_id: int
    first: float
    seen: float
    mask: CropMask
    label: str = ""
    labels: Labels = field(default_factory=Counter)
    at_border: bool = False
    stays: dict[str, _Stay] = field(default_factory=dict)
    sides: dict[str, _Side] = field(default_factory=dict)


@dataclass
class _ZoneTotals:
    """What a zone has counted. carried: objects that were in it before a gap, and may be found in it again."""

    entered: Labels = field(default_factory=Counter)
    left: Labels = field(default_factory=Counter)
    carried: Labels = field(default_factory=Counter)
    stays: int = 0
    dwell_seconds: float = 0.0
    max_dwell: float = 0.0
    frames: int = 0
    max_count: int = 0
    occupancy_sum: float = 0.0
    max_occupancy: float = 0.0

    def end_stay(self, stay: _Stay) -> float:
        """Count how long a stay was; returns it in seconds."""
        seconds = stay.last - stay.since
        self.stays += 1
        self.dwell_seconds += seconds
        self.max_dwell = max(self.max_dwell, seconds)
        return seconds


@dataclass
class _LineTotals:
    crossed_in: Labels = field(default_factory=Counter)
    crossed_out: Labels = field(default_factory=Counter)


class ZoneCounter:
    """Counts what the zones and lines of one camera or video hold, frame by frame.

    shapes: zones and lines, each with its own name. state: of an earlier counter, see `state`; names that are no more
    are dropped from it.

    By masks alone: an object is in a zone if the zone's share of its mask is; `occupancy` is the share of the zone's
    pixels that the union of all masks covers. With track ids (see `Tracker`) also:

    - Unconfirmed objects cover pixels, but are not counted.
    - A track enters a zone when the share is reached, also where it appears inside; it leaves when its share has fallen
      by SHARE_MARGIN below that, so that one on the border does not come and go.
    - A track that is hidden or missed stays where it was, and counts, for up to HOLD_SECONDS. At the frame's border it
      stops to count at once: it has most likely left the picture. It left the zone when it was last seen.
    - A track crosses a line when the centroid of its mask, moving in straight lines from frame to frame, passes between
      the ends and then gets LINE_MARGIN of its size behind the line. Jitter on the line counts once, a jump counts as a
      move, a way around an end does not count, nor does an object that appears on the line.
    - After more than HOLD_SECONDS without a frame, a time that goes back, a new frame size or a restart, tracks are
      unknown: nothing is counted for what happened meanwhile. Objects found inside in the next HOLD_SECONDS do not
      enter again, as many as were inside before; the others have left.

    Raises OptionError for two shapes of one name, or a state of something else.

    >>> import numpy as np
    >>> from pumpseg import Instances, Line, Zone, ZoneCounter
    >>> counter = ZoneCounter([Zone("gate", [0, 0, 0.5, 0, 0.5, 1, 0, 1]), Line("road", [0, 0.5, 1, 0.5])])
    >>> for i in range(10):  # moves right by 8 pixels a frame
    ...     boxes = np.array([[8 * i, 10, 8 * i + 16, 26]], np.float32)
    ...     masks = np.ones((1, 28, 28), np.float32)
    ...     found = Instances.in_frame(boxes, np.ones(1, np.float32), np.array([0]), masks, (64, 96), ["pumpkin"])
    ...     counts = counter.update(found.with_track_ids(np.array([1])), time=i / 10)
    ...     if i == 3:
    ...         counts.zones["gate"].count, counts.zones["gate"].occupancy
    (1, 0.0833...)
    >>> counts.zones["gate"].count, dict(counts.zones["gate"].left), counts.zones["gate"].mean_dwell
    (0, {'pumpkin': 1}, 0.5)
    """

    def __init__(self, shapes: Iterable[Shape], *, state: Mapping[str, Any] | None = None) -> None:
        self.shapes = tuple(shapes)
        check_names(self.shapes)
        self._zones = [shape for shape in self.shapes if isinstance(shape, Zone)]
        self._lines = [shape for shape in self.shapes if isinstance(shape, Line)]
        self._zone_totals = {zone.name: _ZoneTotals() for zone in self._zones}
        self._line_totals = {line.name: _LineTotals() for line in self._lines}
        self._tracks: dict[int, _Track] = {}
        self._time = -math.inf
        self._resumed = -math.inf  # when frames came again after a gap
        self._frames_since_gap = 0
        self._first_size: tuple[int, int] | None = None
        self._frame_size: tuple[int, int] | None = None
        self._class_names: tuple[str, ...] | None = None
        self._masks: dict[str, CropMask] = {}
        self._areas: dict[str, int] = {}
        self._points: dict[str, NDArray[np.float64]] = {}
        self._covered = np.zeros((0, 0), np.uint8)
        if state is not None:
            self._restore(state)

    def update(self, instances: Instances, time: float) -> ZoneCounts:
        """Count the next frame, at `time` in seconds. Frames should come at least every HOLD_SECONDS.

        Raises OptionError for lines and instances without track ids, for pixels beyond the frame, and for a class that
        the model does not have; ValueError for a time that is not finite.
        """
        if not math.isfinite(time):
            raise ValueError(f"a frame's time must be in seconds, got {time}")
        if self._lines and instances.track_ids is None:
            raise OptionError(f"{self._lines[0]} needs track ids: track the frames first")
        self._begin(instances, time)
        seen = self._see(instances)
        labels = [seen[i].label if i in seen else label for i, label in enumerate(instances.labels)]
        lost = [track for track in self._tracks.values() if time - track.seen > HOLD_SECONDS]
        for track in lost:
            del self._tracks[track.track_id]
        occupancies = self._occupancies(instances, labels)
        zones = {zone.name: self._count_zone(zone, instances, labels, seen, lost, occupancies) for zone in self._zones}
        lines = {line.name: self._count_line(line, instances, seen) for line in self._lines}
        for i, track in seen.items():
            track.mask = instances.crop_masks[i]
        if instances.track_ids is None:
            objects = [ZoneObject(None, label) for label in labels]
        else:
            objects = [ZoneObject(one.track_id, one.label, one.seen - one.first) for one in self._present()]
        return ZoneCounts(tuple(objects), zones, lines, instances.track_ids is not None)

    def state(self) -> dict[str, Any]:
        """All that was counted, as plain values for JSON; `ZoneCounter(shapes, state=...)` continues from it."""
        inside = self._inside()
        zones = {
            name: {
                "entered": dict(totals.entered),
                "left": dict(totals.left),
                "inside": dict(totals.carried + inside[name]),
                **{key: getattr(totals, key) for key in _ZONE_NUMBERS},
            }
            for name, totals in self._zone_totals.items()
        }
        lines = {
            name: {"in": dict(totals.crossed_in), "out": dict(totals.crossed_out)}
            for name, totals in self._line_totals.items()
        }
        return {"size": self._first_size and list(self._first_size), "zones": zones, "lines": lines}

    def reset(self) -> None:
        """Start all totals anew, as at the start of a day. What is in a zone stays there, without entering again."""
        for name, totals in self._zone_totals.items():
            self._zone_totals[name] = _ZoneTotals(carried=totals.carried)
        self._line_totals = {name: _LineTotals() for name in self._line_totals}

    def _restore(self, state: Mapping[str, Any]) -> None:
        try:
            size = state["size"]
            self._first_size = None if size is None else (int(size[0]), int(size[1]))
            for name in self._zone_totals.keys() & state["zones"].keys():
                saved = state["zones"][name]
                entered, left, inside = (_counted(saved[key]) for key in ("entered", "left", "inside"))
                numbers: dict[str, Any] = {key: kind(saved[key]) for key, kind in _ZONE_NUMBERS.items()}
                self._zone_totals[name] = _ZoneTotals(entered, left, inside, **numbers)
            for name in self._line_totals.keys() & state["lines"].keys():
                saved = state["lines"][name]
                self._line_totals[name] = _LineTotals(_counted(saved["in"]), _counted(saved["out"]))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise OptionError(f"not the state of a ZoneCounter: {type(error).__name__} {error}") from None

    def _begin(self, instances: Instances, time: float) -> None:
        """Prepare for a frame: its size, its model's classes, and whether it follows a gap."""
        if instances.frame_size != self._frame_size:
            self._interrupt(time)
            self._place(instances.frame_size)
        elif not 0 <= time - self._time <= HOLD_SECONDS:
            self._interrupt(time)
        if instances.class_names != self._class_names:
            check_classes(self.shapes, instances.class_names)
            self._class_names = instances.class_names
        self._time = time
        self._frames_since_gap += 1
        if self._frames_since_gap > _RESUMING_FRAMES and time - self._resumed > HOLD_SECONDS:
            self._end_resuming()

    def _place(self, frame_size: tuple[int, int]) -> None:
        first_size = self._first_size or frame_size
        masks = {zone.name: zone_mask(zone, frame_size, first_size) for zone in self._zones}
        self._points = {shape.name: on_frame(shape, frame_size, first_size) for shape in self.shapes}
        self._masks, self._areas = masks, {name: mask.area for name, mask in masks.items()}
        self._first_size, self._frame_size = first_size, frame_size
        self._covered = np.zeros(frame_size, np.uint8)

    def _interrupt(self, time: float) -> None:
        """Forget all tracks; how many were in each zone is carried over."""
        self._end_resuming()
        for name, labels in self._inside().items():
            self._zone_totals[name].carried += labels
        for track in self._tracks.values():
            for name, stay in track.stays.items():
                self._zone_totals[name].end_stay(stay)
        self._tracks.clear()
        self._resumed, self._frames_since_gap = time, 0

    def _end_resuming(self) -> None:
        """What was carried over and has not been found again has left."""
        if self._resumed == -math.inf:  # of a restored state, before the first frame
            return
        for totals in self._zone_totals.values():
            totals.left.update(totals.carried)
            totals.carried = Counter()

    def _inside(self) -> dict[str, Labels]:
        inside: dict[str, Labels] = {name: Counter() for name in self._zone_totals}
        for track in self._tracks.values():
            for name in track.stays:
                inside[name][track.label] += 1
        return inside

    def _present(self) -> list[_Track]:
        """Tracks that are in the frame, seen or hidden."""
        return [track for track in self._tracks.values() if track.seen == self._time or not track.at_border]

    def _see(self, instances: Instances) -> dict[int, _Track]:
        """The tracks of the instances that have an id and a pixel, by the instance's index."""
        seen: dict[int, _Track] = {}
        if instances.track_ids is None:
            return seen
        boxes, (height, width) = instances.boxes, instances.frame_size
        at_border = (boxes[:, :2] < 1).any(axis=1) | (boxes[:, 2] > width - 1) | (boxes[:, 3] > height - 1)
        confirmed = (instances.track_ids != UNCONFIRMED) & (instances.areas > 0)
        for i in np.flatnonzero(confirmed).tolist():
            track_id = int(instances.track_ids[i])
            track = self._tracks.get(track_id)
            if track is None:
                track = self._tracks[track_id] = _Track(track_id, self._time, self._time, instances.crop_masks[i])
            track.seen, track.at_border = self._time, bool(at_border[i])
            track.labels[instances.labels[i]] += 1
            track.label = track.labels.most_common(1)[0][0]
            seen[i] = track
        return seen

    def _occupancies(self, instances: Instances, labels: Sequence[str]) -> dict[str, float]:
        """The share of each zone that masks cover. Zones that count the same classes share one union of them."""
        occupancies = {}
        for classes in {zone.classes for zone in self._zones}:
            counted = [not classes or label in classes for label in labels]
            crops = list(itertools.compress(instances.crop_masks, counted))
            parts = [_part(self._covered, crop) for crop in crops]
            for part, crop in zip(parts, crops, strict=True):
                cv2.bitwise_or(part, crop.mask.view(np.uint8), dst=part)
            for zone in self._zones:
                if zone.classes == classes:
                    mask = self._masks[zone.name]
                    covered = cv2.bitwise_and(_part(self._covered, mask), mask.mask.view(np.uint8))
                    occupancies[zone.name] = cv2.countNonZero(covered) / self._areas[zone.name]
            for part in parts:
                part[:] = 0
        return occupancies

    def _count_zone(
        self,
        zone: Zone,
        instances: Instances,
        labels: Sequence[str],
        seen: Mapping[int, _Track],
        lost: Sequence[_Track],
        occupancies: Mapping[str, float],
    ) -> ZoneCount:
        name, totals = zone.name, self._zone_totals[zone.name]
        shares = self._shares(zone, instances, labels)
        arrivals, departures = [], []
        for i, track in seen.items():
            stay = track.stays.get(name)
            if stay is None and shares[i] >= zone.share:
                stay = track.stays[name] = _Stay(self._time, self._time)
                if totals.carried[track.label]:
                    totals.carried[track.label] -= 1
                else:
                    totals.entered[track.label] += 1
                    arrivals.append(ZoneObject(track.track_id, track.label))
            elif stay is not None and shares[i] >= zone.share - min(SHARE_MARGIN, zone.share / 2):
                stay.last = self._time
            elif stay is not None:
                departures.append(_left(totals, track, track.stays.pop(name)))
        departures += [_left(totals, track, track.stays[name]) for track in lost if name in track.stays]
        if instances.track_ids is None:
            objects = [ZoneObject(None, label) for label in itertools.compress(labels, shares >= zone.share)]
        else:
            objects = [
                ZoneObject(track.track_id, track.label, track.stays[name].last - track.stays[name].since)
                for track in self._present()
                if name in track.stays
            ]
        totals.frames += 1
        totals.max_count = max(totals.max_count, len(objects))
        totals.occupancy_sum += occupancies[name]
        totals.max_occupancy = max(totals.max_occupancy, occupancies[name])
        return ZoneCount(
            name,
            self._points[name],
            tuple(objects),
            occupancies[name],
            tuple(arrivals),
            tuple(departures),
            dict(totals.entered),
            dict(totals.left),
            totals.stays,
            totals.dwell_seconds,
            totals.max_dwell,
            totals.max_count,
            totals.occupancy_sum / totals.frames,
            totals.max_occupancy,
        )

    def _shares(self, zone: Zone, instances: Instances, labels: Sequence[str]) -> NDArray[np.float64]:
        """The share (N,) of each instance's mask that is in a zone; 0 for a class that does not count."""
        mask = self._masks[zone.name]
        inside = [
            shared_pixels(crop, mask) if not zone.classes or label in zone.classes else 0
            for crop, label in zip(instances.crop_masks, labels, strict=True)
        ]
        return np.array(inside) / np.maximum(instances.areas, 1)

    def _count_line(self, line: Line, instances: Instances, seen: Mapping[int, _Track]) -> LineCount:
        totals, ends = self._line_totals[line.name], self._points[line.name]
        crossings_in: list[ZoneObject] = []
        crossings_out: list[ZoneObject] = []
        beside = _sides(ends, instances.crop_masks)
        for i, track in seen.items():
            if line.classes and track.label not in line.classes:
                continue
            side = track.sides.setdefault(line.name, _Side())
            was_beside, side.beside = side.beside, int(beside[i])
            if was_beside == side.beside == side.settled != 0:
                continue  # wherever in the boxes the centroids are
            mask = instances.crop_masks[i]
            behind, along = _behind_and_along(ends, *mask.centroid)
            behind_before, along_before = _behind_and_along(ends, *track.mask.centroid)
            if (behind_before < 0) != (behind < 0):
                passed = behind_before / (behind_before - behind)
                side.through = 0 <= along_before + passed * (along - along_before) <= 1
            if abs(behind) < _line_margin(mask.area):
                continue
            now = 1 if behind > 0 else -1
            if side.settled == -now and side.through:
                crossing = ZoneObject(track.track_id, track.label)
                (crossings_in if now > 0 else crossings_out).append(crossing)
                (totals.crossed_in if now > 0 else totals.crossed_out)[track.label] += 1
            side.settled, side.through = now, False
        return LineCount(
            line.name,
            ends,
            tuple(crossings_in),
            tuple(crossings_out),
            dict(totals.crossed_in),
            dict(totals.crossed_out),
        )


_ZONE_NUMBERS: dict[str, type[int] | type[float]] = {
    "stays": int,
    "dwell_seconds": float,
    "max_dwell": float,
    "frames": int,
    "max_count": int,
    "occupancy_sum": float,
    "max_occupancy": float,
}


def _counted(saved: Mapping[str, Any]) -> Labels:
    return Counter({str(label): int(count) for label, count in saved.items()})


def _left(totals: _ZoneTotals, track: _Track, stay: _Stay) -> ZoneObject:
    """Count a track that has left a zone."""
    totals.left[track.label] += 1
    return ZoneObject(track.track_id, track.label, totals.end_stay(stay))


def _part(frame: NDArray[np.uint8], crop: CropMask) -> NDArray[np.uint8]:
    """The part of a frame (H, W) under a crop, as a view."""
    height, width = crop.mask.shape
    return frame[crop.y : crop.y + height, crop.x : crop.x + width]


def _line_margin(area: int) -> float:
    """How far behind a line the centroid of a mask must be."""
    return max(_MIN_LINE_MARGIN, LINE_MARGIN * math.sqrt(area))


def _sides(ends: NDArray[np.float64], crops: Sequence[CropMask]) -> NDArray[np.int64]:
    """On which side of a line the whole box of each mask is, farther than the margin: -1, 1, or 0 for neither, (N,)."""
    boxes = np.array([(crop.x, crop.y, *crop.mask.shape) for crop in crops], np.float64).reshape(-1, 4)
    x, y, height, width = boxes.T
    (x1, y1), (dx, dy) = ends[0], ends[1] - ends[0]
    behind = dx * (y + height / 2 - y1) - dy * (x + width / 2 - x1)
    reach = abs(dx) * height / 2 + abs(dy) * width / 2
    margin = np.maximum(_MIN_LINE_MARGIN, LINE_MARGIN * np.sqrt(height * width)) * math.hypot(dx, dy)
    return np.where(np.abs(behind) - reach >= margin, np.sign(behind), 0).astype(np.int64)


def _behind_and_along(ends: NDArray[np.float64], x: float, y: float) -> tuple[float, float]:
    """Pixels from a line to a point behind it, negative before it; and its place along it, 0 at the start to 1.

    Behind is to the right of who walks along the line: y points down.
    """
    (x1, y1), (x2, y2) = ends.tolist()
    dx, dy, dx1, dy1 = x2 - x1, y2 - y1, x - x1, y - y1
    length = math.hypot(dx, dy)
    return (dx * dy1 - dy * dx1) / length, (dx * dx1 + dy * dy1) / length**2
