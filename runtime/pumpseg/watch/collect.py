"""Hard frames: those that would teach a model most are kept, with its masks, to be corrected and trained on."""

from __future__ import annotations

import json
import logging
import queue
import random
import re
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, time

import numpy as np
from numpy.typing import NDArray

from pumpseg.atomic_file import complete_file
from pumpseg.checks import check_count, check_share
from pumpseg.errors import SinkError
from pumpseg.images import encode_image
from pumpseg.instances import UNCONFIRMED, Instances
from pumpseg.video.result import Result
from pumpseg.watch.collected_set import CollectedSet, labels_of, picture_hash
from pumpseg.watch.event import Event, new_event_id
from pumpseg.watch.retention import remove_partial_files

log = logging.getLogger("pumpseg")

PER_HOUR = 20
MAX_FRAMES = 1000
MAX_BYTES = 2e9
MAX_AGE = 30 * 24 * 3600.0
REMEMBERED_EVENTS = 50

FLICKER_SECONDS = 2.0
"""A track that is missing for less was hidden from the model, hardly from the camera."""
_PAUSE_SECONDS = 2.0
_QUEUED = 4
_MARGIN = 0.5
"""By which the picture around an unsure instance is larger than its box, as a share of its sides."""


@dataclass(frozen=True, eq=False)
class _Kept:
    """A frame to keep. focus: the box, xyxy, of what it is kept for, None for all of it."""

    camera: str
    reason: str
    frame: NDArray[np.uint8]
    instances: Instances
    focus: NDArray[np.float32] | None
    moment: datetime


@dataclass
class _Tracks:
    """The confirmed tracks of a camera: which were seen last, and the frame in which one was first missing."""

    boxes: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    missing: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    candidate: Result | None = None
    since: float = 0.0


class Collector:
    """Takes the frames of any number of cameras and keeps the hard ones in a data set, see `CollectedSet`.

    Kept are frames with a score closer than near_threshold to the threshold (reason "unsure"), frames in which a track
    is missing that comes back within FLICKER_SECONDS ("flicker"), a random_share of all others ("random"), and the
    frames of events that a user marks as wrong ("wrong", whatever the limits per hour and on similar frames say).
    per_hour: at most, of all cameras together, also over restarts, and spread: a quarter of the even interval lies
    between two at least. Frames like one that is there already are left out.

    A thread of its own hashes, encodes and writes. Raises OptionError and SinkError.
    """

    def __init__(
        self,
        folder: Path,
        *,
        per_hour: int = PER_HOUR,
        near_threshold: float = 0.1,
        random_share: float = 0.001,
        max_frames: int = MAX_FRAMES,
        max_bytes: float = MAX_BYTES,
        max_age: float = MAX_AGE,
        clock: Callable[[], float] = monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        check_count("per_hour", per_hour)
        check_share("near_threshold", near_threshold)
        check_share("random_share", random_share)
        self._per_hour, self._near, self._random_share = per_hour, near_threshold, random_share
        self._clock, self._draw = clock, draw
        self._set = CollectedSet(folder, max_frames=max_frames, max_bytes=max_bytes, max_age=max_age)
        self._remembered = folder / ".events"
        remove_partial_files(self._remembered)
        self.kept = self.duplicates = self.failed = 0
        self._lock = threading.Lock()
        self._tracks: dict[str, _Tracks] = {}
        self._next_try: dict[str, float] = {}
        now, wall = clock(), time()
        self._hour: deque[float] = deque(now - (wall - moment) for moment in self._set.moments())
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._worker = threading.Thread(target=self._work, name="pumpseg-collect", daemon=True)
        self._worker.start()

    def offer(self, camera: str, result: Result, threshold: float) -> None:
        """Look at a result, and keep its frame if it is hard. Waits for nothing. threshold: of the model."""
        with self._lock:
            hard = self._flicker(camera, result) or self._unsure(camera, result, threshold)
            if hard is None and self._draw() < self._random_share:
                hard = self._keep(camera, "random", result, None)
            now = self._clock()
            if hard is None or now < self._next_try.get(camera, now) or not self._has_room(now):
                return
            self._next_try[camera] = now + _PAUSE_SECONDS
            if self._jobs.qsize() < _QUEUED:
                self._hour.append(now)
                self._jobs.put(lambda: self._add(hard, now))

    def _has_room(self, now: float) -> bool:
        while self._hour and self._hour[0] <= now - 3600:
            self._hour.popleft()
        spread = not self._hour or now - self._hour[-1] >= 3600 / self._per_hour / 4
        return len(self._hour) < self._per_hour and spread

    def _unsure(self, camera: str, result: Result, threshold: float) -> _Kept | None:
        distances = np.abs(result.instances.scores - threshold)
        if not len(distances) or distances.min() > self._near:
            return None
        return self._keep(camera, "unsure", result, result.instances.boxes[int(distances.argmin())])

    def _flicker(self, camera: str, result: Result) -> _Kept | None:
        tracks, ids = self._tracks.setdefault(camera, _Tracks()), result.instances.track_ids
        if ids is None:
            return None
        now = self._clock()
        boxes = {
            int(number): box for number, box in zip(ids, result.instances.boxes, strict=True) if number != UNCONFIRMED
        }
        back = [number for number in tracks.missing if number in boxes]
        kept = None
        if back and tracks.candidate is not None and now - tracks.since <= FLICKER_SECONDS:
            kept = self._keep(camera, "flicker", tracks.candidate, tracks.missing[back[0]], now - tracks.since)
        if back or now - tracks.since > FLICKER_SECONDS:
            tracks.missing, tracks.candidate = {}, None
        lost = {number: box for number, box in tracks.boxes.items() if number not in boxes}
        if lost and tracks.candidate is None:
            tracks.missing, tracks.candidate, tracks.since = lost, result, now
        tracks.boxes = boxes
        return kept

    def _keep(
        self, camera: str, reason: str, result: Result, focus: NDArray[np.float32] | None, age: float = 0.0
    ) -> _Kept:
        moment = datetime.now(UTC) - timedelta(seconds=age)
        return _Kept(camera, reason, result.frame, result.instances, focus, moment)

    def remember(self, event: Event, result: Result | None) -> None:
        """Keep the frame of an event for a while, in case a user marks it as wrong. Waits for nothing."""
        if result is None:
            return
        if self._jobs.qsize() >= REMEMBERED_EVENTS:
            log.warning("event %s cannot be marked as wrong: its frame is not kept, the disk is too slow", event.id)
            return
        kept = self._keep(event.camera, "wrong", result, None)
        self._jobs.put(lambda: self._write_remembered(event.id, kept))

    def mark_wrong(self, event_id: str) -> None:
        """Keep the frame of an event, of which the model was wrong; nothing happens if it is not remembered any more.
        Waits for nothing.
        """
        self._jobs.put(lambda: self._add_remembered(event_id))

    def _work(self) -> None:
        reported = ""
        while (job := self._jobs.get()) is not None:
            try:
                job()
                reported = ""
            except (SinkError, OSError) as error:
                self.failed += 1
                if str(error) != reported:
                    reported = str(error)
                    log.error("a hard frame is not kept: %s", error)
            except Exception:
                self.failed += 1
                log.exception("a hard frame is not kept")

    def _add(self, kept: _Kept, offered: float) -> None:
        path = self._set.add(
            encode_image(kept.frame, Path("frame.jpg")),
            labels_of(kept.instances),
            (picture_hash(kept.frame), picture_hash(_around(kept.frame, kept.focus))),
            camera=kept.camera,
            reason=kept.reason,
            name=_name_of(new_event_id()),
            moment=kept.moment,
        )
        if path is None:
            self.duplicates += 1
            with self._lock:
                self._hour.remove(offered)
            return
        self._note_kept(path)

    def _note_kept(self, path: Path) -> None:
        self.kept += 1
        log.info("kept the hard frame %s", path)

    def _write_remembered(self, event_id: str, kept: _Kept) -> None:
        self._remembered.mkdir(exist_ok=True)
        record = {
            "camera": kept.camera,
            "moment": kept.moment.isoformat(),
            "hash": picture_hash(kept.frame),
            "labels": labels_of(kept.instances),
        }
        for suffix, content in (
            (".jpg", encode_image(kept.frame, Path("frame.jpg"))),
            (".json", json.dumps(record).encode()),
        ):
            with complete_file(self._remembered / f"{event_id}{suffix}", sync=False) as path:
                path.write_bytes(content)
        events = sorted({path.stem for path in self._remembered.glob("[0-9a-f]*")})
        for old in events[:-REMEMBERED_EVENTS]:
            self._forget(old)

    def _add_remembered(self, event_id: str) -> None:
        if re.fullmatch(r"[0-9a-f-]{1,64}", event_id) is None:  # it comes from a browser
            return
        try:
            record = json.loads((self._remembered / f"{event_id}.json").read_bytes())
            jpeg = (self._remembered / f"{event_id}.jpg").read_bytes()
        except FileNotFoundError:
            return
        path = self._set.add(
            jpeg,
            record["labels"],
            (record["hash"], record["hash"]),
            camera=record["camera"],
            reason="wrong",
            name=_name_of(event_id),
            moment=datetime.fromisoformat(record["moment"]),
            allow_duplicate=True,
        )
        self._forget(event_id)
        if path is not None:
            self._note_kept(path)

    def _forget(self, event_id: str) -> None:
        for suffix in (".json", ".jpg"):
            (self._remembered / f"{event_id}{suffix}").unlink(missing_ok=True)

    def close(self) -> None:
        """Finish what has been accepted. Does nothing twice."""
        if self._worker.is_alive():
            self._jobs.put(None)
            self._worker.join(timeout=10)
        self._set.close()


def _around(frame: NDArray[np.uint8], box: NDArray[np.float32] | None) -> NDArray[np.uint8]:
    """The picture around a box, xyxy; all of it for None."""
    if box is None:
        return frame
    x1, y1, x2, y2 = (float(value) for value in box)
    wide, high = _MARGIN * (x2 - x1), _MARGIN * (y2 - y1)
    left, top = max(0, int(x1 - wide)), max(0, int(y1 - high))
    around = frame[top : int(np.ceil(y2 + high)), left : int(np.ceil(x2 + wide))]
    return around if around.size else frame


def _name_of(event_id: str) -> str:
    return event_id.replace("-", "")
