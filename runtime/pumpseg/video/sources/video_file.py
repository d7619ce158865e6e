"""Video files: every frame in order, with the container's own timestamps."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from pumpseg.errors import SourceError
from pumpseg.video.sources.bgr import BgrConverter, Turn, shown_pixel_aspect
from pumpseg.video.sources.clock import Clock
from pumpseg.video.sources.container import MAX_FRAME_PIXELS, film, import_av, open_container, reason
from pumpseg.video.sources.expected_bytes import expected_bytes
from pumpseg.video.sources.frame_source import Frame, Source, VideoTiming

log = logging.getLogger("pumpseg")


@dataclass(frozen=True)
class Section:
    """The frames of a video with start <= pts < end, in the container's units. start: the pts of a key frame."""

    start: float = -math.inf
    end: float = math.inf


WHOLE = Section()

_WITH_INDEX = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
_MIN_PRESENT = 0.9  # share of the frames a container announces that a complete file has; edit lists hide some
_MAX_LOST_AT_END = 10  # packets; where more are damaged up to the end, the video ends before it
_GOOD_IN_ROW = 8  # fewer good packets among damaged ones are frames from before that the decoder's threads held


def key_frames(path: Path) -> list[tuple[int, int]]:
    """(number, pts) of every key frame of a video, numbered as the file stores frames. Nothing is decoded.

    The list ends where the file becomes unreadable. It is empty for a file that is not a video, and for formats
    without an index of times, where seeking to a key frame may overshoot it.
    """
    av = import_av()
    found = []
    with contextlib.suppress(av.FFmpegError, OSError), open_container(path) as container:
        stream = film(container) if container.format.name in _WITH_INDEX else None
        packets = () if stream is None else container.demux(stream)
        for number, packet in enumerate(packet for packet in packets if packet.size):
            if packet.is_keyframe and packet.pts is not None:
                found.append((number, packet.pts))
    return found


class VideoSource(Source):
    """The film in a file or a stream of bytes, turned and mirrored as its metadata say.

    location: a path; the URL of a file that is open as `container`; or None for a pipe that is open as `container`,
    whose audio is lost. section: yields the frames of that part only, numbered from 0.

    Packets that cannot be decoded are left out and counted. Times that jump are shifted, see clock.py.
    Raises SourceError if the file cannot be read as a video, has no video stream or one that nothing here decodes; and
    while iterating if the file is cut short or damaged to its end, naming the frame that was reached.
    """

    timing: VideoTiming

    def __init__(
        self,
        location: Path | str | None,
        name: str | None = None,
        *,
        section: Section = WHOLE,
        container: Any = None,
    ) -> None:
        self._av = import_av()
        if container is None:
            location = Path(location or "")
            self.inputs = (location,)
        self.name = name or str(location)
        self._section = section
        self._container: Any = container or self._open(self.inputs[0])
        stream = film(self._container)
        problem = _problem(stream)
        if problem:
            self._container.close()
            raise SourceError(f"{self.name} {problem}")
        self.audio = location if self._container.streams.audio else None
        self._stream = stream
        self._stream.thread_type = "AUTO"
        self.length = self._stream.frames or None
        rate = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
        self.timing = VideoTiming(self._stream.time_base or 1 / rate, rate)
        if section.start > -math.inf:
            self._container.seek(int(section.start), stream=self._stream)

    def _open(self, path: Path) -> Any:
        try:
            return open_container(path)
        except (self._av.FFmpegError, OSError) as error:
            raise SourceError(f"{path} cannot be read as a video: {_reason(error, path)}") from None

    def __iter__(self) -> Iterator[Frame]:
        time_base, rate = self.timing.time_base, self.timing.rate
        usual_step = max(1, round(1 / rate / time_base))
        index, packets, damaged, first_pts, last_pts = 0, 0, 0, None, None
        clock, decoder, to_bgr = Clock(self._container), _Decoder(self._av, self._container), BgrConverter()
        try:
            for packet in clock.packets(self._stream):
                packets += packet.size > 0
                for decoded, pts in decoder.decode(packet):
                    if pts is None or (last_pts is not None and pts <= last_pts):
                        pts = 0 if last_pts is None else last_pts + usual_step
                    if pts >= self._section.end:
                        return
                    if pts < self._section.start:
                        continue
                    first_pts = pts if first_pts is None else first_pts
                    time = float((pts - first_pts) * time_base)
                    aspect = shown_pixel_aspect(Turn.of(decoded), self._stream)
                    yield Frame(to_bgr(decoded), self.name, index, time, pts, pixel_aspect=aspect)
                    last_pts, index, damaged = pts, index + 1, damaged + decoded.is_corrupt
            if decoder.lost_in_row > _MAX_LOST_AT_END:
                raise decoder.error
        except self._av.FFmpegError as error:
            if self._is_cut_short(packets):
                raise SourceError(f"{self.name} is cut short: {self._reached(index)}") from None
            if index == 0:
                raise self._no_frame() from None
            raise SourceError(
                f"{self.name} is damaged, or changes its codec midway: {self._reached(index)} ({reason(error)})"
            ) from None
        if index == 0:
            raise self._no_frame()
        if self._is_cut_short(packets):
            raise SourceError(f"{self.name} is cut short: {self._reached(index)}")
        if decoder.lost:
            log.warning("%s: %d of %d packets are damaged and were left out", self.name, decoder.lost, packets)
        if damaged:
            log.warning("%s: %d of %d frames are damaged and were decoded only in part", self.name, damaged, index)
        if clock.jumps:
            log.info(
                "%s: the clock jumps (%d times); times after a jump were shifted to follow those before",
                self.name,
                clock.jumps,
            )

    def close(self) -> None:
        self._container.close()

    def _is_cut_short(self, packets: int) -> bool:
        # The container also counts frames outside an edit list, so only a file that lacks bytes is cut short.
        if not self.inputs:  # a URL or pipe: its size is unknown
            return self.length is not None and packets < _MIN_PRESENT * self.length
        fewer = self.length is None or packets < self.length
        return fewer and any((expected_bytes(path) or 0) > path.stat().st_size for path in self.inputs)

    def _no_frame(self) -> SourceError:
        # FFmpeg does not say which size it refused.
        why = f"it is damaged, or they have more than {MAX_FRAME_PIXELS:,} pixels"
        return SourceError(f"{self.name} has no frame that can be decoded: {why}")

    def _reached(self, index: int) -> str:
        return f"it ends after frame {index} of {self.length or 'unknown'}"


class _Decoder:
    """Decodes packets and continues after those that are damaged, as ffmpeg does.

    lost: packets that could not be decoded; what comes before the first key frame does not count. lost_in_row: of
    these, since the last run of good ones. error: that of the last one.
    """

    def __init__(self, av: Any, container: Any) -> None:
        self._av = av
        self._container = container
        self.lost = self.lost_in_row = 0
        self.error: Any = None
        self._began = False
        self._good_in_row = 0
        # AVI has no presentation times: libav numbers its packets, which are in the order of decoding.
        self._counts_packets = container.format.name == "avi"
        self._first_dts: int | None = None
        self._delay: int | None = None
        self._last = self._step = 0

    def decode(self, packet: Any) -> list[tuple[Any, int | None]]:
        """Frames that are complete with this packet, each with its pts."""
        if self._first_dts is None:
            self._first_dts = packet.dts
        try:
            frames = packet.decode()
        except self._av.FFmpegError as error:
            if self._began or packet.is_keyframe:
                self.lost, self.lost_in_row, self.error = self.lost + 1, self.lost_in_row + 1, error
                self._good_in_row = 0
            return []
        self._began = self._began or bool(frames)
        self._good_in_row += packet.size > 0
        if self._good_in_row > _GOOD_IN_ROW:
            self.lost_in_row = 0
        return [(frame, self._pts(frame)) for frame in frames]

    def _pts(self, frame: Any) -> int | None:
        if not self._counts_packets:
            return frame.pts  # type: ignore[no-any-return]
        if self._delay is None:
            # Frames are complete a few packets late, and begin with the sound all the same.
            self._delay = (frame.dts or 0) - (self._first_dts or 0)
        pts = self._last + self._step if frame.dts is None else frame.dts - self._delay
        self._last, self._step = pts, pts - self._last
        return pts


def _problem(stream: Any) -> str:
    if stream is None:
        return "has no video stream"
    if stream.codec_context is None:
        return "has a video stream of a codec that FFmpeg does not know or cannot decode"
    return ""


def _reason(error: Exception, path: Path) -> str:
    with contextlib.suppress(OSError):
        if (expected_bytes(path) or 0) > path.stat().st_size:
            return "the file is cut short"
    return reason(error)
