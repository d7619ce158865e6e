"""Ids that stay with instances from frame to frame.

OC-SORT (Cao et al. 2023, https://arxiv.org/abs/2203.14360), as the package trackers has it, joins boxes of one frame
to the next. What boxes cannot tell is decided here, by masks and by the motion before an occlusion: whether a track is
another pumpkin, one that was lost, or no pumpkin of its own at all.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pumpseg.errors import OptionError, SourceError, require
from pumpseg.instances import UNCONFIRMED, Instances
from pumpseg.masks.paste import CropMask, shared_pixels
from pumpseg.video.sources.frame_source import Source

CONFIRMING_FRAMES = 3
CONFIRMING_SECONDS = 0.15
"""A track must have been seen in so many frames, as min_hits of SORT, and for so long, before it has an id."""
LOST_SECONDS = 2.0
"""How long an id waits for its instance to come back."""

_NOMINAL_RATE = 30.0
_OC_SORT_BUFFER = 30  # frames at the nominal rate: boxes alone are trusted for a second

# How far from where a lost track is expected another may go on with it: _NEAR of its size, and more with the time for
# which its motion is extrapolated, since the middle of a box is known to about _JITTER of its size, or _TOUCHED_JITTER
# where it touches another. What may have drifted by more than _MAX_DRIFT of its size is not extrapolated.
_NEAR = 0.75
_JITTER = 0.1
_TOUCHED_JITTER = 0.2
_MAX_DRIFT = 1.25
_MAX_GROWTH = 2.0
_MOTION_SECONDS = 1.0
_WHOLE = 0.1  # no further from its usual size: hardly anything hides it, and it is not taken for one with another
_MOMENT_SECONDS = 0.3  # a track that was seen so lately was merely missed

_COVERED = 0.5  # share of its mask that others have: it is a second find of one, or several taken for one
_SHARED = 1 / 3  # share of a mask that a track makes up which went into it


@dataclass(frozen=True)
class _Sight:
    """Where an instance was: seconds, middle and size (the root of the box's area) in pixels."""

    time: float
    x: float
    y: float
    size: float


@dataclass
class _Track:
    """One of OC-SORT's tracks.

    inside: sights of it while it did not touch the border; free: those of them while it touched no other instance.
    gone_into: when it was last taken for a part of another's instance.
    """

    ident: int = UNCONFIRMED
    frames: int = 1  # the first, in which OC-SORT gives no number, among them
    first: float = math.inf
    inside: deque[_Sight] = field(default_factory=lambda: deque(maxlen=64))
    free: deque[_Sight] = field(default_factory=lambda: deque(maxlen=64))
    gone_into: float = -math.inf
    last: _Sight = _Sight(-math.inf, 0.0, 0.0, 0.0)
    box: NDArray[np.float32] = field(default_factory=lambda: np.zeros(4, np.float32))
    mask: CropMask = field(default_factory=lambda: CropMask(0, 0, np.zeros((0, 0), np.bool_)))

    @property
    def is_confirmed(self) -> bool:
        return self.frames >= CONFIRMING_FRAMES and self.last.time - self.first >= CONFIRMING_SECONDS

    def see(self, box: NDArray[np.float32], time: float, *, inside: bool, free: bool) -> None:
        x1, y1, x2, y2 = (float(side) for side in box)
        self.last = _Sight(time, (x1 + x2) / 2, (y1 + y2) / 2, math.sqrt((x2 - x1) * (y2 - y1)))
        self.box = box
        self.first = min(self.first, time)
        self.frames += 1
        if inside:
            self.inside.append(self.last)
        if free:
            self.free.append(self.last)

    def expected(self, time: float) -> tuple[_Sight, float]:
        """Where it is at a later time if it goes on as before, and by how many pixels that may be off.

        Before is while it was free; or, if that was too short or too long ago, while it had its usual size.
        """
        sights, drift = [self.last], _MAX_DRIFT
        for known, jitter in ((self.free, _JITTER), (self._whole(), _TOUCHED_JITTER)):
            recent = [sight for sight in known if known[-1].time - sight.time <= _MOTION_SECONDS]
            if len(recent) > 1:
                off = jitter * (time - recent[-1].time) / (recent[-1].time - recent[0].time)
                if off < drift:
                    sights, drift = recent, off
        end = sights[-1]
        if len(sights) == 1:
            return replace(end, time=time), _NEAR * end.size
        # A straight line through the sights, by least squares.
        places = np.array([(sight.time, sight.x, sight.y) for sight in sights])
        middle = places.mean(axis=0)
        times = places[:, 0] - middle[0]
        x, y = middle[1:] + (times @ places[:, 1:]) / (times @ times) * (time - middle[0])
        return _Sight(time, float(x), float(y), end.size), (_NEAR + drift) * end.size

    def _whole(self) -> list[_Sight]:
        usual = np.median([sight.size for sight in self.inside]) if self.inside else 0.0
        return [sight for sight in self.inside if abs(sight.size - usual) < _WHOLE * usual]

    def has_gone_into(self, mask: CropMask, time: float) -> bool:
        """Whether this track, which a moment ago was seen or in another, must be part of an instance with this mask.

        One that goes behind another does not: all that was seen of it in the end is a sliver.
        """
        if time - max(self.last.time, self.gone_into) > _MOMENT_SECONDS:
            return False
        (then, _), (now, _) = self.expected(self.last.time), self.expected(time)
        moved = CropMask(self.mask.x + round(now.x - then.x), self.mask.y + round(now.y - then.y), self.mask.mask)
        return shared_pixels(mask, moved) > _SHARED * _area(mask)


def tracker_of(source: Source) -> Tracker:
    """A tracker for a video or camera. Raises SourceError for images, which nothing moves through."""
    if source.timing is None:
        raise SourceError(f"instances are tracked through a video or camera, and {source.name} stands for images")
    return Tracker(float(source.timing.rate))


class Tracker:
    """Follows the instances of one source. Frames must come in the order of their time.

    rate: frames a second, roughly, since what counts are the times of the frames; 0 if not known.
    Attributes: `count`, the ids given so far, which is that of distinct instances.
    Raises PumpsegError if the package trackers is not installed, OptionError for a rate below 0.
    """

    def __init__(self, rate: float = 0.0) -> None:
        if not 0 <= rate < math.inf:
            raise OptionError(f"rate must be frames a second, or 0, got {rate}")
        self._detections: Any = require("supervision", extra="track").Detections
        self._oc_sort: Any = require("trackers", extra="track").OCSORTTracker(
            lost_track_buffer=_OC_SORT_BUFFER,
            frame_rate=rate if rate > 0 else _NOMINAL_RATE,
            # More would withhold the id of a track that comes back, too; _Track.frames does not.
            minimum_consecutive_frames=1,
            # Weak instances are left out before they come here.
            high_conf_det_threshold=0.0,
        )
        self._tracks: dict[int, _Track] = {}
        self._time = -math.inf
        self.count = 0

    def update(self, instances: Instances, time: float) -> Instances:
        """The instances of the next frame, at `time` in seconds, with ids.

        Ids count from 1. UNCONFIRMED have those that are seen for the first few times, and those that cover two that
        were apart before. A time that is not later than the last is taken for one a millisecond later.
        Raises ValueError for a time that is no number.
        """
        if not math.isfinite(time):
            raise ValueError(f"a frame's time must be in seconds, got {time}")
        self._time = max(time, self._time + 1e-3)
        numbers = self._joined(instances)
        seen = {number: self._seen(number, instances.frame_size) for number in numbers if number != UNCONFIRMED}
        missing = [
            track.box
            for number, track in self._tracks.items()
            if number not in seen and self._time - track.last.time <= _MOMENT_SECONDS
        ]
        inside, free = _inside_and_free(instances, missing)
        for i, number in enumerate(numbers):
            if number != UNCONFIRMED:
                seen[number].see(instances.boxes[i], self._time, inside=bool(inside[i]), free=bool(free[i]))
        self._tracks.update(seen)
        hidden = [track for number, track in self._tracks.items() if number not in seen and track.ident != UNCONFIRMED]

        masks = instances.crop_masks
        ids = np.full(len(instances), UNCONFIRMED, np.int64)
        for i, number in enumerate(numbers):
            if number == UNCONFIRMED:
                continue
            track = seen[number]
            parts = [lost for lost in hidden if lost.ident != UNCONFIRMED and lost.has_gone_into(masks[i], self._time)]
            if track.ident == UNCONFIRMED and track.is_confirmed and len(parts) < 2:
                known = [
                    masks[j]
                    for j, other in enumerate(numbers)
                    if j < i or (j > i and other != UNCONFIRMED and seen[other].ident != UNCONFIRMED)
                ]
                if sum(shared_pixels(masks[i], other) for other in known) <= _COVERED * _area(masks[i]):
                    track.ident = self._ident_of_new(track, hidden)
            parts = [
                lost for lost in parts if lost.ident != UNCONFIRMED
            ]  # without the one that this track goes on with
            for lost in parts:
                lost.gone_into = self._time
            if not parts:
                ids[i] = track.ident
                track.mask = masks[i]
        self._tracks = {
            number: track for number, track in self._tracks.items() if self._time - track.last.time <= LOST_SECONDS
        }
        return instances.with_track_ids(ids)

    def _joined(self, instances: Instances) -> list[int]:
        """The number of OC-SORT's track for every instance, UNCONFIRMED for none."""
        detections = self._detections(
            xyxy=instances.boxes.astype(np.float64),
            confidence=instances.scores.astype(np.float64),
            data={"index": np.arange(len(instances))},
        )
        joined = self._oc_sort.update(detections, timestamp=self._time)
        numbers = [UNCONFIRMED] * len(instances)
        if len(joined):
            for index, number in zip(joined.data["index"], joined.tracker_id, strict=True):
                numbers[index] = int(number)
        return numbers

    def _seen(self, number: int, frame_size: tuple[int, int]) -> _Track:
        """The track of a number; a new one where the old had left the picture and something else came in there."""
        track = self._tracks.get(number)
        if track is None:
            return _Track()
        if self._time - track.last.time <= _MOMENT_SECONDS:
            return track
        now, _ = track.expected(self._time)
        return track if 0 <= now.x < frame_size[1] and 0 <= now.y < frame_size[0] else _Track()

    def _ident_of_new(self, track: _Track, hidden: list[_Track]) -> int:
        """The id of the lost track that this one goes on with, which ends then; or a new one."""
        here = track.last
        nearest, least = None, 1.0
        for lost in hidden:
            there, tolerance = lost.expected(here.time)
            distance = math.hypot(there.x - here.x, there.y - here.y) / tolerance
            growth = here.size / there.size
            if lost.ident != UNCONFIRMED and distance < least and 1 / _MAX_GROWTH < growth < _MAX_GROWTH:
                nearest, least = lost, distance
        if nearest is None:
            self.count += 1
            return self.count
        ident, nearest.ident = nearest.ident, UNCONFIRMED
        return ident


def _inside_and_free(
    instances: Instances, missing: Sequence[NDArray[np.float32]]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of each box whether it does not touch the frame's border, and neither that, another, nor one missed just now."""
    boxes, (height, width) = instances.boxes, instances.frame_size
    inside = (boxes[:, :2] >= 1).all(axis=1) & (boxes[:, 2] <= width - 1) & (boxes[:, 3] <= height - 1)
    others = np.concatenate([boxes, np.reshape(missing, (-1, 4))])
    starts, ends = boxes[:, None, :2], boxes[:, None, 2:]
    touches = (starts < others[:, 2:]).all(axis=2) & (others[:, :2] < ends).all(axis=2)
    return inside, inside & (touches.sum(axis=1) == 1)


def _area(mask: CropMask) -> int:
    return int(np.count_nonzero(mask.mask))
