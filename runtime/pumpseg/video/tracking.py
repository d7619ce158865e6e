"""Track ids: the same instance keeps its id from frame to frame.

OC-SORT (Cao et al. 2023, https://arxiv.org/abs/2203.14360), from the package trackers, associates the boxes of one
frame with the next. What boxes cannot decide is decided here, by masks and by the motion before an occlusion: whether a
track is a new instance, one that was lost, or a duplicate detection.
"""

from __future__ import annotations

import math
import statistics
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
"""A track is confirmed, and gets an id, once it was seen in so many frames (min_hits of SORT) and for so long."""
LOST_SECONDS = 2.0
"""How long a lost track waits for its instance to reappear."""

MIN_RATE = 1.25
"""Frames a second below which no instance gets an id: a second after its last box, OC-SORT forgets a track."""

_NOMINAL_RATE = 30.0
_OC_SORT_BUFFER = 30  # frames at the nominal rate: boxes alone are trusted for a second

# How far from its predicted place a lost track may be found again: _NEAR of its size, and more with the time for which
# its motion is extrapolated, since the centre of a box is known to about _JITTER of its size, or _TOUCHED_JITTER
# where it touches another. What may have drifted by more than _MAX_DRIFT of its size is not extrapolated.
_NEAR = 0.75
_JITTER = 0.1
_TOUCHED_JITTER = 0.2
_MAX_DRIFT = 1.25
_MAX_GROWTH = 2.0
_MOTION_SECONDS = 1.0
_WHOLE = 0.1  # of its usual size: an instance that differs by less is hardly occluded and not merged with another
_MOMENT_SECONDS = 0.3  # a track seen this recently was merely missed

_COVERED = 0.5  # share of its mask that other instances cover: a duplicate, or several merged into one
_SHARED = 1 / 3  # share of a detection's mask that a track merged into it makes up


@dataclass(frozen=True)
class Observation:
    """Where an instance was: seconds, centre and size (the root of the box's area) in pixels."""

    time: float
    x: float
    y: float
    size: float


@dataclass(frozen=True)
class _Motion:
    """A straight line through observations, by least squares.

    end: the last of them; seconds: since the first. jitter: see `_JITTER`. middle: mean time, x and y. speed: x and y,
    pixels a second.
    """

    end: Observation
    seconds: float
    jitter: float
    middle: NDArray[np.float64]
    speed: NDArray[np.float64]

    @classmethod
    def of(cls, known: Sequence[Observation], jitter: float) -> _Motion | None:
        """The motion in the last _MOTION_SECONDS of the observations; None of fewer than two."""
        recent = [one for one in known if known[-1].time - one.time <= _MOTION_SECONDS]
        if len(recent) < 2:
            return None
        places = np.array([(one.time, one.x, one.y) for one in recent])
        middle = places.mean(axis=0)
        times = places[:, 0] - middle[0]
        speed = (times @ places[:, 1:]) / (times @ times)
        return cls(recent[-1], recent[-1].time - recent[0].time, jitter, middle, speed)

    def at(self, time: float) -> Observation:
        """Where it leads to at a time."""
        x, y = self.middle[1:] + self.speed * (time - self.middle[0])
        return Observation(time, float(x), float(y), self.end.size)


@dataclass
class Track:
    """One of OC-SORT's tracks.

    frames: in which it was seen, with the first, in which OC-SORT gives no number. inside: observations while it did
    not touch the border; free: those of them in which it touched no other instance either. merged_at: when it was last
    part of another track's instance. box, mask: when it was last seen.
    """

    track_id: int = UNCONFIRMED
    frames: int = 1
    first: float = math.inf
    inside: deque[Observation] = field(default_factory=lambda: deque(maxlen=64))
    free: deque[Observation] = field(default_factory=lambda: deque(maxlen=64))
    merged_at: float = -math.inf
    last: Observation = Observation(-math.inf, 0.0, 0.0, 0.0)
    box: NDArray[np.float32] = field(default_factory=lambda: np.zeros(4, np.float32))
    mask: CropMask = field(default_factory=lambda: CropMask(0, 0, np.zeros((0, 0), np.bool_)))
    _motions: list[_Motion] | None = None

    @property
    def has_id(self) -> bool:
        return self.track_id != UNCONFIRMED

    @property
    def is_confirmed(self) -> bool:
        return self.frames >= CONFIRMING_FRAMES and self.last.time - self.first >= CONFIRMING_SECONDS

    def see(self, box: NDArray[np.float32], time: float, *, inside: bool, free: bool) -> None:
        x1, y1, x2, y2 = (float(side) for side in box)
        self.last = Observation(time, (x1 + x2) / 2, (y1 + y2) / 2, math.sqrt((x2 - x1) * (y2 - y1)))
        self.box = box
        self.first = min(self.first, time)
        self.frames += 1
        if inside:
            self.inside.append(self.last)
        if free:
            self.free.append(self.last)
        self._motions = None

    def predicted(self, time: float) -> tuple[Observation, float]:
        """Where it is at a later time if its motion does not change, and the tolerance in pixels.

        Its motion is that while it was free; or, if that was too short or too long ago, while it had its usual size.
        """
        if self._motions is None:  # the same until it is seen again
            known = ((self.free, _JITTER), (self._whole(), _TOUCHED_JITTER))
            self._motions = [motion for places, jitter in known if (motion := _Motion.of(places, jitter)) is not None]
        best, drift = None, _MAX_DRIFT
        for motion in self._motions:
            off = motion.jitter * (time - motion.end.time) / motion.seconds
            if off < drift:
                best, drift = motion, off
        if best is None:
            return replace(self.last, time=time), _NEAR * self.last.size
        return best.at(time), (_NEAR + drift) * best.end.size

    def _whole(self) -> list[Observation]:
        # NumPy's median takes twenty times as long for so few.
        usual = statistics.median([one.size for one in self.inside]) if self.inside else 0.0
        return [one for one in self.inside if abs(one.size - usual) < _WHOLE * usual]

    def moved_mask(self, time: float) -> CropMask | None:
        """Its mask where it must be now, if it was seen or merged a moment ago; else None."""
        if time - max(self.last.time, self.merged_at) > _MOMENT_SECONDS:
            return None
        (then, _), (now, _) = self.predicted(self.last.time), self.predicted(time)
        return CropMask(self.mask.x + round(now.x - then.x), self.mask.y + round(now.y - then.y), self.mask.mask)


class _Detections:
    """What OC-SORT uses of supervision's Detections, whose own indexing takes a tenth of the time of the association.

    xyxy: (N, 4). confidence: (N,). index: places in the frame's instances, (N,). tracker_id: OC-SORT sets it.
    """

    def __init__(
        self,
        xyxy: NDArray[np.float64],
        confidence: NDArray[np.float64],
        index: NDArray[np.int64] | None = None,
    ) -> None:
        self.xyxy, self.confidence = xyxy, confidence
        self.index = np.arange(len(xyxy)) if index is None else index
        self.tracker_id: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.xyxy)

    def __getitem__(self, chosen: Any) -> _Detections:
        return _Detections(self.xyxy[chosen], self.confidence[chosen], self.index[chosen])


def tracker_of(source: Source) -> Tracker:
    """A tracker for a video or camera. Raises SourceError for still images."""
    if source.timing is None:
        raise SourceError(f"tracking needs a video or camera, {source.name} is still images")
    return Tracker(float(source.timing.rate))


class Tracker:
    """Follows the instances of one source. Frames must come in the order of their time.

    rate: frames a second, roughly: the times of the frames are what counts; 0 if unknown.
    Attributes: `count`, the distinct instances (track ids) so far; `tracks`, followed or lost, by
    OC-SORT's number.
    Raises PumpsegError if the package trackers is not installed, OptionError for a rate below 0.
    """

    def __init__(self, rate: float = 0.0) -> None:
        if not 0 <= rate < math.inf:
            raise OptionError(f"rate must be frames a second, or 0, got {rate}")
        self._oc_sort: Any = require("trackers", extra="track").OCSORTTracker(
            lost_track_buffer=_OC_SORT_BUFFER,
            frame_rate=rate if rate > 0 else _NOMINAL_RATE,
            # More would also withhold the id of a track that reappears; Track.frames does not.
            minimum_consecutive_frames=1,
            # The segmenter's threshold has removed weak detections already.
            high_conf_det_threshold=0.0,
        )
        self.tracks: dict[int, Track] = {}
        self._time = -math.inf
        self.count = 0

    def update(self, instances: Instances, time: float) -> Instances:
        """The instances of the next frame, at `time` in seconds, with track ids.

        Ids count from 1. UNCONFIRMED marks an instance that was seen too few times, that other instances cover, or
        into which two tracks merged. A time that is not later than the last counts as one a millisecond later.
        Raises ValueError for a time that is not finite.
        """
        if not math.isfinite(time):
            raise ValueError(f"a frame's time must be in seconds, got {time}")
        self._time = max(time, self._time + 1e-3)
        numbers = self._associated(instances)
        seen = {number: self._track(number, instances.frame_size) for number in numbers if number != UNCONFIRMED}
        missing = [
            track.box
            for number, track in self.tracks.items()
            if number not in seen and self._time - track.last.time <= _MOMENT_SECONDS
        ]
        inside, free = _inside_and_free(instances, missing)
        for i, number in enumerate(numbers):
            if number != UNCONFIRMED:
                seen[number].see(instances.boxes[i], self._time, inside=bool(inside[i]), free=bool(free[i]))
        self.tracks.update(seen)
        hidden = [track for number, track in self.tracks.items() if number not in seen and track.has_id]
        hidden_masks = [(track, mask) for track in hidden if (mask := track.moved_mask(self._time)) is not None]

        masks = instances.crop_masks
        track_ids = np.full(len(instances), UNCONFIRMED, np.int64)
        for i, number in enumerate(numbers):
            if number == UNCONFIRMED:
                continue
            track = seen[number]
            parts = [lost for lost, mask in hidden_masks if lost.has_id and _is_part(mask, masks[i])]
            if not track.has_id and track.is_confirmed and len(parts) < 2:
                known = [
                    masks[j]
                    for j, other in enumerate(numbers)
                    if j < i or (j > i and other != UNCONFIRMED and seen[other].has_id)
                ]
                if sum(shared_pixels(masks[i], other) for other in known) <= _COVERED * masks[i].area:
                    track.track_id = self._new_id(track, hidden)
            # The lost track whose id this one has taken over is not a part of it.
            parts = [lost for lost in parts if lost.has_id]
            for lost in parts:
                lost.merged_at = self._time
            if not parts:
                track_ids[i] = track.track_id
                track.mask = masks[i]
        self.tracks = {
            number: track for number, track in self.tracks.items() if self._time - track.last.time <= LOST_SECONDS
        }
        return instances.with_track_ids(track_ids)

    def _associated(self, instances: Instances) -> list[int]:
        """The number of OC-SORT's track for every instance, UNCONFIRMED without one."""
        detections = _Detections(instances.boxes.astype(np.float64), instances.scores.astype(np.float64))
        tracked = self._oc_sort.update(detections, timestamp=self._time)
        numbers = [UNCONFIRMED] * len(instances)
        if len(tracked):
            for index, number in zip(tracked.index, tracked.tracker_id, strict=True):
                numbers[index] = int(number)
        return numbers

    def _track(self, number: int, frame_size: tuple[int, int]) -> Track:
        """The track of a number; a new one if the old one has left the picture since it was last seen."""
        track = self.tracks.get(number)
        if track is None:
            return Track()
        if self._time - track.last.time <= _MOMENT_SECONDS:
            return track
        now, _ = track.predicted(self._time)
        return track if 0 <= now.x < frame_size[1] and 0 <= now.y < frame_size[0] else Track()

    def _new_id(self, track: Track, hidden: list[Track]) -> int:
        """The id of the lost track that this one continues, which ends; or a new one."""
        here = track.last
        nearest, least = None, 1.0
        for lost in hidden:
            there, tolerance = lost.predicted(here.time)
            distance = math.hypot(there.x - here.x, there.y - here.y) / tolerance
            growth = here.size / there.size
            if lost.has_id and distance < least and 1 / _MAX_GROWTH < growth < _MAX_GROWTH:
                nearest, least = lost, distance
        if nearest is None:
            self.count += 1
            return self.count
        track_id, nearest.track_id = nearest.track_id, UNCONFIRMED
        return track_id


def _inside_and_free(
    instances: Instances, missing: Sequence[NDArray[np.float32]]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """For each box: it does not touch the frame's border; nor another box or a track that was missed a moment ago."""
    boxes, (height, width) = instances.boxes, instances.frame_size
    inside = (boxes[:, :2] >= 1).all(axis=1) & (boxes[:, 2] <= width - 1) & (boxes[:, 3] <= height - 1)
    others = np.concatenate([boxes, np.reshape(missing, (-1, 4))])
    starts, ends = boxes[:, None, :2], boxes[:, None, 2:]
    touches = (starts < others[:, 2:]).all(axis=2) & (others[:, :2] < ends).all(axis=2)
    return inside, inside & (touches.sum(axis=1) == 1)


def _is_part(mask: CropMask, whole: CropMask) -> bool:
    """Whether a hidden track's mask makes up a detection's, into which it has merged.

    A track that passes behind another does not: the last that was seen of it is a sliver.
    """
    return shared_pixels(whole, mask) > _SHARED * whole.area
