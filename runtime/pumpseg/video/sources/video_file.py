"""Video files: every frame in order, with the container's own timestamps."""

from __future__ import annotations

import contextlib
import logging
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from pumpseg.errors import SourceError, require
from pumpseg.video.sources.frame_source import Frame, Source, VideoTiming

if TYPE_CHECKING:
    import av

log = logging.getLogger("pumpseg")

_QUARTER_TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}


def import_av() -> Any:
    """The av module, its logging off. Raises PumpsegError naming the extra if it is not installed."""
    av = require("av", extra="video")
    # Failures arrive as exceptions; libav would print them on the user's terminal as well.
    av.logging.set_level(None)
    return av


@dataclass(frozen=True)
class Section:
    """The frames of a video with start <= pts < end, in the container's units. start: the pts of a key frame."""

    start: float = -math.inf
    end: float = math.inf


WHOLE = Section()

_WITHOUT_INDEX = ("mpegts", "avi")
_MIN_PRESENT = 0.9  # share of the frames a container announces that a complete file has; edit lists hide some


def key_frames(path: Path) -> list[tuple[int, int]]:
    """(number, pts) of every key frame of a video, numbered as the file stores frames. Nothing is decoded.

    The list ends where the file becomes unreadable. It is empty for a file that is not a video, and for formats
    without an index of times, where seeking to a key frame may overshoot it.
    """
    av = import_av()
    found = []
    with contextlib.suppress(av.FFmpegError, OSError), av.open(str(path)) as container:
        exact = container.streams.video and container.format.name not in _WITHOUT_INDEX
        packets = container.demux(video=0) if exact else ()
        for number, packet in enumerate(packet for packet in packets if packet.size):
            if packet.is_keyframe and packet.pts is not None:
                found.append((number, packet.pts))
    return found


class VideoSource(Source):
    """The first video stream of a file, rotated as its metadata say.

    location: a path; or the URL of a file that is open as `container`. section: yields the frames of that part only,
    numbered from 0.

    Raises SourceError if the file cannot be read as a video or has no video stream, and while iterating if it is
    damaged or cut short, naming the frame that was reached.
    """

    timing: VideoTiming

    def __init__(
        self,
        location: Path | str,
        name: str | None = None,
        *,
        section: Section = WHOLE,
        container: Any = None,
    ) -> None:
        self._av = import_av()
        self.inputs = () if container else (Path(location),)
        self.name = name or str(location)
        self._section = section
        self._container: av.container.InputContainer = container or self._open(Path(location))
        if not self._container.streams.video:
            self._container.close()
            raise SourceError(f"{self.name} has no video stream")
        self.audio = str(location) if self._container.streams.audio else None
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self.length = self._stream.frames or None
        rate = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
        self.timing = VideoTiming(self._stream.time_base or 1 / rate, rate)
        if section.start > -math.inf:
            self._container.seek(int(section.start), stream=self._stream)

    def _open(self, path: Path) -> Any:
        try:
            return self._av.open(str(path))
        except (self._av.FFmpegError, OSError) as error:
            raise SourceError(f"{path} cannot be read as a video: {_reason(error, path)}") from None

    def __iter__(self) -> Iterator[Frame]:
        time_base, rate = self.timing.time_base, self.timing.rate
        usual_step = max(1, round(1 / rate / time_base))
        index, packets, damaged, first_pts, last_pts = 0, 0, 0, None, None
        to_bgr = BgrConverter()
        try:
            for packet in self._container.demux(self._stream):
                packets += packet.size > 0
                frames, error = self._decode(packet, index)
                for decoded in frames:
                    pts = decoded.pts
                    if pts is None or (last_pts is not None and pts <= last_pts):
                        pts = 0 if last_pts is None else last_pts + usual_step
                    if pts >= self._section.end:
                        return
                    if pts < self._section.start:
                        continue
                    first_pts = pts if first_pts is None else first_pts
                    time = float((pts - first_pts) * time_base)
                    yield Frame(to_bgr(decoded), self.name, index, time, pts)
                    last_pts, index, damaged = pts, index + 1, damaged + decoded.is_corrupt
                if error is not None:
                    raise error
        except self._av.FFmpegError as error:
            if self._is_cut_short(packets):
                raise SourceError(f"{self.name} is cut short: {self._reached(index)}") from None
            raise SourceError(
                f"{self.name} is damaged, or changes its codec midway: {self._reached(index)} ({error.strerror})"
            ) from None
        if index == 0:
            raise SourceError(f"{self.name} has no frame that can be decoded")
        if self._is_cut_short(packets):
            raise SourceError(f"{self.name} is cut short: {self._reached(index)}")
        if damaged:
            log.warning("%s: %d of %d frames are damaged and were decoded only in part", self.name, damaged, index)

    def close(self) -> None:
        self._container.close()

    def _is_cut_short(self, packets: int) -> bool:
        # The container also counts frames outside an edit list, so only a file that lacks bytes is cut short.
        if not self.inputs:  # a URL: its size is unknown
            return self.length is not None and packets < _MIN_PRESENT * self.length
        fewer = self.length is None or packets < self.length
        return fewer and any((expected_bytes(path) or 0) > path.stat().st_size for path in self.inputs)

    def _decode(self, packet: Any, index: int) -> tuple[list[Any], Exception | None]:
        """Frames of a packet, and the error that ends the video. What comes before the first key frame is skipped."""
        try:
            return packet.decode(), None
        except self._av.FFmpegError as error:
            if index == 0 and not packet.is_keyframe:
                return [], None
            with contextlib.suppress(self._av.FFmpegError):
                # Whole frames that the decoder's threads still hold.
                return self._stream.codec_context.decode(None), error
            return [], error

    def _reached(self, index: int) -> str:
        return f"it ends after frame {index} of {self.length or 'unknown'}"


class BgrConverter:
    """Turns decoded frames into uint8 BGR (H, W, 3), rotated as their metadata say.

    It keeps libswscale's tables between frames, which takes a third of the time of `VideoFrame.to_ndarray`.
    """

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()

    def __call__(self, decoded: Any) -> NDArray[np.uint8]:
        image: NDArray[np.uint8] = self._reformatter.reformat(decoded, format="bgr24").to_ndarray()  # type: ignore[assignment]
        turn = _QUARTER_TURNS.get(round(decoded.rotation) % 360)
        return image if turn is None else cv2.rotate(image, turn)  # type: ignore[return-value]


def _reason(error: Exception, path: Path) -> str:
    with contextlib.suppress(OSError):
        if (expected_bytes(path) or 0) > path.stat().st_size:
            return "the file is cut short"
    return getattr(error, "strerror", None) or str(error)


def expected_bytes(path: Path) -> int | None:
    """Bytes that the file should have by its outermost structure: MP4/MOV, AVI and Matroska/WebM; None for others."""
    with path.open("rb") as file:
        start = file.read(12)
        if start[4:8] == b"ftyp":
            return _mp4_bytes(file, path.stat().st_size)
        if start[:4] == b"RIFF":
            return int.from_bytes(start[4:8], "little") + 8
        if start[:4] == b"\x1a\x45\xdf\xa3":
            return _matroska_bytes(file)
    return None


def _mp4_bytes(file: BinaryIO, actual: int) -> int:
    """End of the last box (ISO/IEC 14496-12, section 4.2)."""
    end = 0
    while end + 8 <= actual:
        file.seek(end)
        size, kind = struct.unpack(">I4s", file.read(8))
        if size == 1:
            size = int.from_bytes(file.read(8), "big")
        if size < 8 or not kind.isascii():
            return end
        end += size
    return end


def _matroska_bytes(file: BinaryIO) -> int | None:
    """End of the segment that follows the EBML header (RFC 8794, section 6); None if it is not given."""
    file.seek(4)
    header = _ebml_size(file)
    if header is None:
        return None
    file.seek(header, 1)
    if file.read(4) != b"\x18\x53\x80\x67":
        return None
    segment = _ebml_size(file)
    return None if segment is None else file.tell() + segment


def _ebml_size(file: BinaryIO) -> int | None:
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & (0xFF >> length)]) + file.read(length - 1), "big")
    return None if value == (1 << 7 * length) - 1 else value
