"""Annotated videos: H.264 or AV1 in MP4, MOV or Matroska, with the timestamps and the audio of the source."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pumpseg.atomic_file import PartialFile
from pumpseg.errors import SinkError
from pumpseg.opencv import cv2
from pumpseg.redaction import redacted
from pumpseg.video.result import Result, Sink
from pumpseg.video.sources.clock import Clock
from pumpseg.video.sources.container import import_av, open_container, reason
from pumpseg.video.sources.frame_source import VideoTiming

log = logging.getLogger("pumpseg")

VIDEO_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
DEFAULT_CODEC = "h264"


@dataclass(frozen=True)
class _Encoder:
    """An encoder of libav and its options."""

    name: str
    options: dict[str, str] = field(default_factory=dict)


CODECS = {
    # The preset takes 60% of the time of "veryfast", which the model can use better; B-frames at fixed places
    # instead of chosen ones save another seventh, for files 1% larger.
    "h264": _Encoder("libx264", {"preset": "superfast", "crf": "23", "x264-params": "b-adapt=0"}),
    # Presets 10 and above leave blocks of wrong colours on what moves (SVT-AV1 4.1), and no smaller files.
    "av1": _Encoder("libsvtav1", {"preset": "8", "crf": "32"}),
}

# Code points of ITU-T H.273.
_BT709 = 1
_BT601_MATRIX = 6
_LIMITED_RANGE = 1
_USUAL_LAYOUTS = dict(enumerate(("mono", "stereo", "2.1", "4.0", "5.0", "5.1", "6.1", "7.1"), 1))  # FFmpeg's defaults


def check_video_format(target: Path) -> None:
    """Raise SinkError unless videos are saved with this suffix."""
    if target.suffix.lower() not in VIDEO_FORMATS:
        raise SinkError(f"cannot write {target}: videos are saved as {', '.join(VIDEO_FORMATS)}")


class VideoSink(Sink):
    """Encodes annotated frames into one file, which appears when complete.

    target: .mp4, .m4v, .mov or .mkv. timing: of the source; every frame keeps its pts, so a variable frame
    rate survives. audio: path, or URL as a str, of a file whose audio streams are copied without re-encoding, or None;
    a stream that the format cannot hold is left out.
    codec: "h264", or "av1", which takes more time. live: write fragments, as a recording of weeks needs: memory stays
    flat, and the file is readable even if the process is killed.
    Pixels have the shape (sample aspect ratio) of those of the first frame. Frames of odd size get one more row or
    column, as 4:2:0 video requires.

    Raises SinkError if the file cannot be written.
    """

    def __init__(
        self,
        target: Path,
        timing: VideoTiming,
        audio: Path | str | None = None,
        *,
        codec: str = DEFAULT_CODEC,
        live: bool = False,
    ) -> None:
        check_video_format(target)
        if codec not in CODECS:
            raise SinkError(f"unknown codec {codec!r}; there are {', '.join(CODECS)}")
        if timing.rate <= 0 or timing.time_base <= 0:
            raise SinkError(f"cannot write {target}: a video needs a frame rate above 0, not {timing.rate}")
        self._av = import_av()
        self._encoder = CODECS[codec]
        if self._encoder.name not in self._av.codecs_available:
            raise SinkError(f"cannot write {target}: this PyAV has no {self._encoder.name}; choose another codec")
        self.path = target
        self._file = PartialFile(target, live=live)
        self._timing = timing
        self._audio_from = audio
        self._live = live
        self._container: Any = None
        self._video: Any = None
        self._audio: _AudioCopy | None = None
        self._size = (0, 0)
        self._scaled_from = (0, 0)

    def write(self, result: Result) -> None:
        image = result.annotated
        assert result.pts is not None
        if self._container is None:
            self._open(image.shape[0], image.shape[1], result.pixel_aspect)
        if image.shape[:2] != self._size:
            image = self._fitted(image)
        # OpenCV's conversion (BT.601, limited range) takes half the time of libswscale's and rounds better.
        planes = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420)
        frame = self._av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts, frame.time_base = result.pts, self._timing.time_base
        with self._writing():
            self._container.mux(self._video.encode(frame))
        self._copy_audio(until=result.pts * self._timing.time_base)

    def complete(self, *, interrupted: bool = False) -> None:
        """Finish the file and give it its name; after an interruption audio ends where the video does."""
        if self._container is None:
            return
        if not interrupted:
            self._copy_audio(until=None)
        with self._writing():
            self._container.mux(self._video.encode())
            self._close()
        self._file.complete()
        self.files = 1

    def recover(self) -> Path | None:
        self._abandon()
        return self._file.recover()

    def discard(self) -> None:
        self._abandon()
        self._file.discard()

    def _open(self, height: int, width: int, pixel_aspect: Fraction) -> None:
        self._size = (height + height % 2, width + width % 2)
        if self._audio_from is not None:
            try:
                self._audio = _AudioCopy(self._av, self._audio_from)
            except (self._av.FFmpegError, OSError) as error:
                shown = redacted(str(self._audio_from))
                raise SinkError(f"cannot read the audio of {shown}: {reason(error)}") from None
        audio = self._audio
        try:
            self._start(pixel_aspect)
        except (self._av.FFmpegError, ValueError) as error:
            if audio is None or not audio.codecs:
                raise SinkError(f"cannot write {self._file.target}: {error}") from None
            audio.left_out += audio.codecs
            self._close()
            with self._writing():
                self._start(pixel_aspect)
        if audio is not None and audio.left_out:
            codecs = ", ".join(audio.left_out)
            log.warning("%s cannot hold the audio (%s), which is left out", self._file.target.name, codecs)

    def _start(self, pixel_aspect: Fraction) -> None:
        container_format = VIDEO_FORMATS[self._file.target.suffix.lower()]
        options = {}
        if container_format != "matroska":
            options["movflags"] = "+frag_keyframe+empty_moov+default_base_moof" if self._live else "+faststart"
        if self._live:
            # What is older is on the disk when the process is killed.
            options |= (
                {"frag_duration": "1000000"} if container_format != "matroska" else {"cluster_time_limit": "1000"}
            )
            options["flush_packets"] = "1"
        encoding = dict(self._encoder.options)
        if self._live and self._encoder.name == "libx264":
            # B-frames would shift all times: a fragmented file has no edit list to compensate for their delay.
            encoding["bf"] = "0"
        # SVT-AV1 writes a page about itself on stderr otherwise.
        os.environ.setdefault("SVT_LOG", "1")
        self._container = self._av.open(f"file:{self._file.path}", "w", format=container_format, options=options)
        self._video = self._container.add_stream(self._encoder.name, rate=self._timing.rate, options=encoding)
        self._video.height, self._video.width = self._size
        self._video.pix_fmt = "yuv420p"
        # Set after the rate: PyAV would derive a time base from it that cannot hold variable timestamps.
        self._video.time_base = self._timing.time_base
        context = self._video.codec_context
        context.time_base = self._timing.time_base
        context.sample_aspect_ratio = pixel_aspect
        context.colorspace, context.color_range = _BT601_MATRIX, _LIMITED_RANGE
        context.color_primaries = context.color_trc = _BT709
        if self._audio is not None:
            self._audio.attach(self._container)
        with _scheduled_as_before():
            self._container.start_encoding()

    def _fitted(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = self._size
        down, right = height - image.shape[0], width - image.shape[1]
        if down in (0, 1) and right in (0, 1):
            return cv2.copyMakeBorder(image, 0, down, 0, right, cv2.BORDER_REPLICATE)  # type: ignore[return-value]
        # A stream may change its size midway; a file has one.
        if self._scaled_from != image.shape[:2]:
            self._scaled_from = (image.shape[0], image.shape[1])
            log.warning(
                "%s: the picture changes to %dx%d and is scaled to %dx%d",
                *(self._file.target, image.shape[1], image.shape[0], width, height),
            )
        return cv2.resize(image, (width, height))  # type: ignore[return-value]

    def _copy_audio(self, until: Fraction | None) -> None:
        if self._audio is not None:
            for packet in self._audio.packets(until):
                with self._writing():
                    self._container.mux(packet)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns a failed write into SinkError."""
        try:
            yield
        except (self._av.FFmpegError, OSError) as error:
            raise SinkError(f"cannot write {self._file.target}: {error.strerror or error}") from None

    def _abandon(self) -> None:
        try:
            self._close()
        except (self._av.FFmpegError, OSError):
            log.debug("closing an abandoned video failed", exc_info=True)

    def _close(self) -> None:
        if self._audio is not None:
            self._audio.close()
            self._audio = None
        container, self._container = self._container, None
        if container is not None:
            container.close()


@contextlib.contextmanager
def _scheduled_as_before() -> Iterator[None]:
    """Keep real-time priority from this thread and from those that begin meanwhile.

    SVT-AV1 gives it to the thread that opens it and to all of its own, if it may, as root may. They would then take the
    processor from every other program, and so would what this thread starts later.
    """
    if sys.platform != "linux":
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    others = _threads() - {threading.get_native_id()}
    try:
        yield
    finally:
        for thread in _threads() - others:
            with contextlib.suppress(ProcessLookupError):  # it has ended
                if os.sched_getscheduler(thread) != policy:
                    os.sched_setscheduler(thread, policy, parameters)


def _threads() -> set[int]:
    """Linux's numbers of this process's threads."""
    return {int(folder.name) for folder in Path("/proc/self/task").iterdir()}


class _AudioCopy:
    """Packets of a file's audio streams, copied to streams of the same kind in an output container.

    codecs: of the streams that are copied. left_out: of those that the output cannot hold.
    """

    def __init__(self, av: Any, location: Path | str) -> None:
        self._av = av
        self._input = open_container(location)
        self.codecs: list[str] = []
        self.left_out: list[str] = []
        self._packets: Iterator[Any] = iter(())
        self._copies: dict[int, Any] = {}
        self._last_dts: dict[int, int] = {}
        self._next: Any = None

    def attach(self, output: Any) -> None:
        """Add a stream for each of the input's that the output holds."""
        for stream in self._input.streams.audio:
            codec = stream.codec_context
            if codec is None:
                self.left_out.append("unknown codec")
                continue
            try:
                copy = self._copies[stream.index] = output.add_stream_from_template(stream)
            except ValueError:
                self.left_out.append(codec.name)
                continue
            self.codecs.append(codec.name)
            channels = codec.layout.nb_channels
            if channels in _USUAL_LAYOUTS and codec.layout.name == f"{channels} channels":
                # AVI and Matroska do not name the channels of PCM, and MP4 must: it would fail at the very end.
                copy.codec_context.layout = _USUAL_LAYOUTS[channels]
        if self._copies:
            copied = [stream for stream in self._input.streams.audio if stream.index in self._copies]
            self._packets = Clock(self._input).packets(*copied)

    def packets(self, until: Fraction | None) -> Iterator[Any]:
        """Packets up to a time in seconds; None for all the rest. Damaged audio ends where the damage is."""
        while True:
            try:
                packet = next(self._packets, None) if self._next is None else self._next
            except self._av.FFmpegError as error:
                log.warning("the audio ends early: it is damaged, or its connection failed (%s)", reason(error))
                self._packets, packet = iter(()), None
            self._next = None
            if packet is None:
                return
            if packet.dts is None:
                continue
            if until is not None and packet.dts * packet.time_base > until:
                self._next = packet
                return
            copy = self._copies[packet.stream.index]
            self._make_later(packet, copy.time_base)
            packet.stream = copy
            yield packet

    def _make_later(self, packet: Any, unit: Fraction) -> None:
        """Move a packet behind the one before, in units of the output: no container holds times that go back."""
        last = self._last_dts.get(packet.stream_index)
        if last is not None and packet.dts <= last:
            packet.dts = last + max(1, math.ceil(unit / packet.time_base))
            packet.pts = max(packet.pts or packet.dts, packet.dts)
        self._last_dts[packet.stream_index] = packet.dts

    def close(self) -> None:
        self._input.close()
