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
from pumpseg.video.sources.frame_source import Frame, VideoTiming

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


_WITHOUT_INDEX = ("mpegts", "avi")
_MAX_PROMISED = 0.9  # of the frames that a container names, all but those outside an edit list are there


def key_frames(path: Path) -> list[tuple[int, int]]:
    """(number, pts) of every key frame of a video, numbered as the file stores frames. Nothing is decoded.

    It ends where the file can no longer be read; empty for a file that is no video, and for formats without an index
    of times, where seeking to a key frame may end behind it.
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


class VideoSource:
    """The first video stream of a file, rotated as its metadata ask.

    section: gives the frames of a part only, which count from 0 there.

    Raises SourceError when the file is none or has no video, and while iterating when it is damaged or cut
    short, naming the frame that was reached.
    """

    live = False
    dropped = reconnects = failed = 0
    _section = Section()

    def __init__(self, path: Path, name: str | None = None, *, section: Section | None = None) -> None:
        av = import_av()
        try:
            container = av.open(str(path))
        except (av.FFmpegError, OSError) as error:
            raise SourceError(f"{path} is no video that can be read: {_reason(error, path)}") from None
        self._start(container, name or str(path), str(path), (path,))
        if section is not None:
            self._section = section
            if section.start > -math.inf:
                container.seek(int(section.start), stream=self._stream)

    @classmethod
    def from_url(cls, container: Any, url: str, name: str) -> VideoSource:
        """The file behind a URL, opened as `container`."""
        source = cls.__new__(cls)
        source._start(container, name, url, ())
        return source

    def _start(self, container: Any, name: str, location: str, inputs: tuple[Path, ...]) -> None:
        self._av = import_av()
        self._container: av.container.InputContainer = container
        self.name, self.inputs = name, inputs
        if not container.streams.video:
            container.close()
            raise SourceError(f"{name} has no video stream")
        self.audio: str | None = location if container.streams.audio else None
        self._stream = container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self.length: int | None = self._stream.frames or None
        rate = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
        time_base = self._stream.time_base or 1 / rate
        self.timing: VideoTiming | None = VideoTiming(time_base, rate)

    def __iter__(self) -> Iterator[Frame]:
        assert self.timing is not None
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
                f"{self.name} is damaged, or changes its codec on the way: {self._reached(index)} ({error.strerror})"
            ) from None
        if index == 0:
            raise SourceError(f"{self.name} holds no frame that can be decoded")
        if self._is_cut_short(packets):
            raise SourceError(f"{self.name} is cut short: {self._reached(index)}")
        if damaged:
            log.warning("%s: %d of %d frames are damaged and were only decoded in part", self.name, damaged, index)

    def close(self) -> None:
        self._container.close()

    def _is_cut_short(self, packets: int) -> bool:
        # Frames outside an edit list are promised too, so only a file that lacks bytes counts as cut short.
        if not self.inputs:  # behind a URL, whose bytes cannot be looked at
            return self.length is not None and packets < _MAX_PROMISED * self.length
        fewer = self.length is None or packets < self.length
        return fewer and any((promised_bytes(path) or 0) > path.stat().st_size for path in self.inputs)

    def _decode(self, packet: Any, index: int) -> tuple[list[Any], Exception | None]:
        """Frames of a packet, and why there are no more. Those before the first key frame cannot be decoded."""
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
    """Turns decoded frames into uint8 BGR (H, W, 3), upright as their metadata ask.

    It keeps libswscale's tables from frame to frame, which takes a third of the time of `VideoFrame.to_ndarray`.
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
        if (promised_bytes(path) or 0) > path.stat().st_size:
            return "the file is cut short"
    return getattr(error, "strerror", None) or str(error)


def promised_bytes(path: Path) -> int | None:
    """Bytes that the file's outermost structure asks for: MP4/MOV, AVI and Matroska/WebM; None for others."""
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
    """End of the segment that follows the EBML header (RFC 8794, section 6); None if it does not tell."""
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
