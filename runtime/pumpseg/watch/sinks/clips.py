"""Clips of what happened, from before an event until after it: out of what the camera sends anyway."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

from pumpseg.atomic_file import write_json
from pumpseg.errors import OptionError, SinkError
from pumpseg.video.sources.packet_ring import MAX_BYTES as RING_BYTES
from pumpseg.video.sources.packet_ring import PacketRing
from pumpseg.watch.event import Event
from pumpseg.watch.retention import Retention
from pumpseg.watch.sinks.clip_writer import ClipWriter
from pumpseg.watch.sinks.event_sink import EventSink
from pumpseg.watch.sinks.snapshots import event_file_name

log = logging.getLogger("pumpseg")

BEFORE, AFTER = 5.0, 10.0
MAX_SECONDS = 120.0
MAX_BYTES = 5e9
MAX_AGE = 30 * 24 * 3600.0
# What the thread of a recording may lag behind the camera.
_SPARE_SECONDS = 5.0
_POLL_SECONDS = 0.5


class ClipSink(EventSink):
    """Records a clip for each event: TIME-CAMERA-RULE-ID.mp4, H.264, and a .json of the events in it.

    A clip begins at the last key frame that is `before` seconds before the event, or earlier, and ends `after` seconds
    after it. An event during a clip of its camera is in that clip, which is extended, up to max_seconds in all.
    The packets come from the ring of each camera, see `ring`: the connection is the camera's own, its pictures are as
    the camera sends them, with nothing drawn, masked out or blurred. They are copied if they are H.264, else encoded.

    max_bytes, max_age: the oldest files beyond so many bytes, or older than so many seconds, are removed.
    ring_bytes: memory for the packets of each camera.
    Raises OptionError for times and limits that make no sense, SinkError if the folder cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        *,
        before: float = BEFORE,
        after: float = AFTER,
        max_seconds: float = MAX_SECONDS,
        max_bytes: float = MAX_BYTES,
        max_age: float = MAX_AGE,
        ring_bytes: int = RING_BYTES,
    ) -> None:
        if min(before, after) < 0 or max_seconds <= before + after:
            raise OptionError(f"a clip of {before:g} s before and {after:g} s after is longer than {max_seconds:g} s")
        self.name = f"clips {folder}"
        self.folder = folder
        self._before, self._after, self._max_seconds = before, after, max_seconds
        self._ring_bytes = ring_bytes
        self._rings: dict[str, PacketRing] = {}
        self._recordings: dict[str, _Recording] = {}
        self._lock = threading.Lock()
        self._retention = Retention(folder, (".mp4", ".json"), max_bytes=max_bytes, max_age=max_age)

    def ring(self, camera: str) -> PacketRing:
        """The ring of a camera, to be passed to `open_source`: always the same one."""
        with self._lock:
            if camera not in self._rings:
                self._rings[camera] = PacketRing(self._before + _SPARE_SECONDS, max_bytes=self._ring_bytes)
            return self._rings[camera]

    @property
    def waiting(self) -> int:
        """Events whose clips are being recorded."""
        with self._lock:
            return sum(len(recording.events) for recording in self._recordings.values())

    def send(self, event: Event) -> None:
        ring, moment = self.ring(event.camera), _arrived(event)
        with self._lock:
            recording = self._recordings.get(event.camera)
            if recording is not None and recording.extend(event, moment + self._after):
                return
            start = ring.start(moment - self._before, moment)
            target = self.folder / f"{event_file_name(event)}.mp4"
            recording = _Recording(target, ring, start, event, moment + self._after, self._max_seconds, self._ended)
            self._recordings[event.camera] = recording
            recording.start()

    def _ended(self, recording: _Recording, error: SinkError | None) -> None:
        with self._lock:
            if self._recordings.get(recording.camera) is recording:
                del self._recordings[recording.camera]
            if error is not None:
                self.failed += len(recording.events)
                log.error("%s: %s", self.name, error)
            elif recording.target.exists():
                self.sent += len(recording.events)
                self._retention.add(recording.target)
                self._retention.add(recording.about)
            else:
                log.warning("%s: %s sent nothing, there is no clip", self.name, recording.camera)

    def find(self, event_id: str) -> Path | None:
        """The clip that an event began; None if there is none, or no more."""
        with self._lock:
            files = [path for path in self._retention.files if path.suffix == ".mp4"]
        return next((path for path in files if path.stem.endswith(event_id)), None)

    def close(self) -> None:
        """Complete the clips that are being recorded, as they are."""
        with self._lock:
            recordings = list(self._recordings.values())
        for recording in recordings:
            recording.stop()
        for recording in recordings:
            recording.join(timeout=10)


class _Recording(threading.Thread):
    """Writes one clip in a thread of its own. ended: called at the end, with the error if there was one."""

    def __init__(
        self,
        target: Path,
        ring: PacketRing,
        number: int,
        event: Event,
        end: float,
        max_seconds: float,
        ended: Callable[[_Recording, SinkError | None], None],
    ) -> None:
        super().__init__(name=f"pumpseg-clip-{event.camera}", daemon=True)
        self.target, self.about = target, target.with_suffix(".json")
        self.camera, self.events = event.camera, [event]
        self._ring, self._number, self._end, self._max_seconds = ring, number, end, max_seconds
        self._ended = ended
        self._began: float | None = None
        self._over = False
        self._state = threading.Lock()

    def extend(self, event: Event, end: float) -> bool:
        """Whether the clip goes on until `end`, and has the event; not once it is over, or would be too long."""
        with self._state:
            if self._over or (self._began is not None and end - self._began > self._max_seconds):
                return False
            self.events.append(event)
            self._end = max(self._end, end)
            return True

    def stop(self) -> None:
        """End the clip where the camera is now."""
        with self._state:
            self._end = min(self._end, perf_counter())

    def run(self) -> None:
        error = None
        try:
            self._record()
        except SinkError as failure:
            error = failure
        finally:
            with self._state:
                self._over = True
            self._ended(self, error)

    def _record(self) -> None:
        writer: ClipWriter | None = None
        number, format_ = self._number, None
        try:
            while True:
                packets = self._ring.read(number, _POLL_SECONDS)
                if not packets and self._is_over(perf_counter()):
                    break
                for packet in packets:
                    if self._is_over(packet.arrived) or format_ not in (None, packet.format):
                        break
                    # Where packets are missing, a decoder can go on at the next key frame only.
                    if packet.is_keyframe or (packet.number == number and writer is not None):
                        if writer is None:
                            self._began, format_ = packet.arrived, packet.format
                            writer = ClipWriter(self.target, packet)
                        writer.write(packet)
                        number = packet.number + 1
                else:
                    continue
                break
            if writer is not None:
                writer.complete()
                writer = None
                write_json(self.about, self._description())
        finally:
            if writer is not None:
                writer.recover()

    def _is_over(self, moment: float) -> bool:
        with self._state:
            self._over = self._over or moment > self._end
            return self._over

    def _description(self) -> dict[str, Any]:
        began = self._began or 0.0
        now, wall = perf_counter(), datetime.now(UTC)
        return {
            "camera": self.camera,
            "begins": (wall - timedelta(seconds=now - began)).isoformat(timespec="milliseconds"),
            "events": [
                {
                    "id": event.id,
                    "rule": event.rule,
                    "seconds": round((event.time - wall).total_seconds() + now - began, 3),
                }
                for event in self.events
            ],
        }


def _arrived(event: Event) -> float:
    """When the frame of an event arrived, on the clock of `time.perf_counter`."""
    return perf_counter() - (datetime.now(UTC) - event.time).total_seconds()
