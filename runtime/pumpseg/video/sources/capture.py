"""One connection to a camera: a device through OpenCV, a network stream through PyAV. `camera.py` keeps it alive."""

from __future__ import annotations

import logging
import os
import re
import sys
from dataclasses import dataclass
from fractions import Fraction
from time import perf_counter, sleep
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pumpseg.errors import SourceError
from pumpseg.opencv import cv2
from pumpseg.video.sources.bgr import BgrConverter, Turn, shown_pixel_aspect
from pumpseg.video.sources.container import MAX_FRAME_PIXELS, film, import_av, open_container, reason
from pumpseg.video.sources.packet_ring import PacketRing, format_of

log = logging.getLogger("pumpseg")

# A stream that delivers packets for so long without ever making us wait is read slower than it is sent.
BEHIND_SECONDS = 0.5
_WAITED_SECONDS = 0.001
# No camera sends more frames a second; one that does must not take the processor from the others.
MAX_RATE = 120
_FLOOD_PAUSE = 0.001  # after each packet beyond them: reading takes the processor, too
# A stream that never makes us wait is behind for ever: of it, a frame that stands alone is decoded so often.
MAX_SKIPPED_SECONDS = 0.5
_BAD_PACKETS = 100

_WEBCAM = re.compile(r"webcam(?::(\d{1,3}))?")
_DEVICE = re.compile(r"/dev/(video\d+|v4l/.+)")
_USUAL_RATE = Fraction(30)


@dataclass(frozen=True)
class CameraSettings:
    """What is requested of a camera device; drivers grant what they can. size: (width, height) in pixels."""

    size: tuple[int, int] | None = None
    fps: float | None = None


DEFAULT_CAMERA = CameraSettings()


class Capture(Protocol):
    """An open camera.

    rate: frames a second as it reports. negotiated: size, rate and format in words. skipped: frames discarded before
    they were decoded, so far. pixel_aspect: width of a pixel by its height in the last picture.
    """

    rate: Fraction
    negotiated: str
    skipped: int
    pixel_aspect: Fraction

    def read(self) -> tuple[NDArray[np.uint8], float]:
        """The next frame, uint8 BGR (H, W, 3), and when it arrived on the clock of `time.perf_counter`.

        Raises SourceError with the reason when there are no more.
        """
        ...

    def close(self) -> None: ...


def device_of(name: str) -> int | str | None:
    """The camera that "webcam", "webcam:N" or a path such as /dev/video0 names, for `DeviceCapture`; else None."""
    webcam = _WEBCAM.fullmatch(name)
    return int(webcam[1] or 0) if webcam else name if _DEVICE.fullmatch(name) else None


class DeviceCapture:
    """A camera of this machine, by number or device path (/dev/video0)."""

    skipped = 0
    pixel_aspect = Fraction(1)

    def __init__(self, device: int | str, camera: CameraSettings) -> None:
        self._capture = open_device(device, camera)
        if not self._capture.isOpened():
            self._capture.release()
            raise SourceError("cannot be opened: no such camera, or another program uses it")
        reported = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = Fraction(reported).limit_denominator(1001) if 0 < reported <= 1000 else _USUAL_RATE
        width, height = (int(self._capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        code = int(self._capture.get(cv2.CAP_PROP_FOURCC))
        letters = bytes(code >> shift & 0xFF for shift in (0, 8, 16, 24))
        pixels = letters.decode("ascii").strip() if letters.isalnum() else "unknown format"
        self.negotiated = f"{width}x{height} at {float(self.rate):g} fps, {pixels}"
        if camera.size not in (None, (width, height)) or (camera.fps and abs(camera.fps - self.rate) > 0.5):
            self.negotiated += ", not all that was requested"

    def read(self) -> tuple[NDArray[np.uint8], float]:
        read, image = self._capture.read()
        if not read:
            raise SourceError("it stopped delivering frames")
        return image, perf_counter()  # type: ignore[return-value]

    def close(self) -> None:
        self._capture.release()


def open_device(device: int | str, camera: CameraSettings) -> cv2.VideoCapture:
    """OpenCV's capture of a device, with the settings requested; not opened if there is no such camera."""
    # Otherwise Windows' own backend searches for hardware transforms for up to half a minute.
    os.environ.setdefault("OPENCV_VIDEOIO_MSMF_ENABLE_HW_TRANSFORMS", "0")
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        # By default OpenCV opens a path as a video file.
        by_path = isinstance(device, str) and sys.platform.startswith("linux")
        capture = cv2.VideoCapture(device, cv2.CAP_V4L2 if by_path else cv2.CAP_ANY)
    finally:
        cv2.utils.logging.setLogLevel(level)
    # Uncompressed YUYV over USB reaches 5 to 10 frames a second at 720p, MJPG 30. The format comes before the
    # size: drivers check a size against the format they are in.
    capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    if camera.size is not None:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, camera.size[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, camera.size[1])
    if camera.fps is not None:
        capture.set(cv2.CAP_PROP_FPS, camera.fps)
    return capture


def open_url(url: str, *, live: bool = True) -> Any:
    """A container of a URL; live: opened for low delay, which may lose the first frames.

    Raises SourceError with the reason.
    """
    av = import_av()
    options: dict[str, str] = {}
    if live:
        options |= {"fflags": "nobuffer", "analyzeduration": "2000000", "max_delay": "500000"}
    if url.lower().startswith("rtsp"):
        # UDP loses packets on busy networks, and a lost one smears the picture until the next key frame.
        options["rtsp_flags"] = "prefer_tcp"
    try:
        container = open_container(url, options)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise SourceError(f"cannot be opened: {reason(error)}") from None
    if film(container) is None:
        container.close()
        raise SourceError("has no video stream")
    return container


def is_finite(container: Any) -> bool:
    """Whether a URL leads to a file with an end, rather than a camera or a broadcast."""
    return container.duration is not None and container.format.name not in ("rtsp", "mpjpeg", "rtp", "sdp")


def is_still(container: Any) -> bool:
    """Whether a URL leads to an image, such as a camera's snapshot."""
    return str(container.format.name).endswith("_pipe")


class StreamCapture:
    """A network stream that is open as `container`.

    Packets that cannot be decoded are skipped. When packets arrive faster than they are decoded, or more than MAX_RATE
    a second, the backlog is discarded up to the next packet that can be decoded alone, so that delay and load stay
    bounded.
    ring: keeps all packets of the last seconds as well.
    """

    def __init__(self, container: Any, ring: PacketRing | None = None) -> None:
        self._av = import_av()
        self._container = container
        self._stream = stream = film(container)
        self.pixel_aspect = Fraction(1)
        # Frame threading would delay the picture by a frame for each thread.
        stream.thread_type = "SLICE"
        stream.codec_context.flags |= int(self._av.codec.context.Flags.low_delay)
        self.rate = stream.average_rate or stream.guessed_rate or _USUAL_RATE
        codec = stream.codec_context
        self.negotiated = f"{codec.width}x{codec.height} at {float(self.rate):g} fps, {codec.name}"
        self._only_key_frames = bool(stream.codec.intra_only)
        self._packets = container.demux(stream)
        self._decoded: list[tuple[Any, float]] = []
        self._waited = perf_counter()
        self._skips = False
        self._second, self._in_second, self._last = self._waited, 0, self._waited  # of the frames that are decoded
        self.skipped = 0
        self._bad = 0
        self._to_bgr = BgrConverter()
        self._ring = ring
        # JPEGs over HTTP come without times: libav counts them as if all came at the same rate.
        self._has_times = container.format.name != "mpjpeg"
        if ring is not None:
            ring.begin(format_of(stream))

    def read(self) -> tuple[NDArray[np.uint8], float]:
        while not self._decoded:
            self._decode_next()
        decoded, arrived = self._decoded.pop(0)
        self.pixel_aspect = shown_pixel_aspect(Turn.of(decoded), self._stream)
        return self._to_bgr(decoded), arrived

    def _decode_next(self) -> None:
        packet, arrived = self._next_packet()
        if self._ring is not None:
            is_keyframe = packet.is_keyframe or self._only_key_frames
            pts, dts = (packet.pts, packet.dts) if self._has_times else (None, None)
            self._ring.add(bytes(packet), pts, dts, is_keyframe=is_keyframe, arrived=arrived)
        if self._is_skipped(packet, arrived):
            return
        try:
            self._decoded += [(frame, arrived) for frame in packet.decode()]
            self._bad = 0
        except self._av.FFmpegError as error:
            self._bad += 1
            if self._bad >= _BAD_PACKETS:
                limit = f"frames have at most {MAX_FRAME_PIXELS:,} pixels"
                raise SourceError(f"it cannot be decoded ({reason(error)}; {limit})") from None

    def _next_packet(self) -> tuple[Any, float]:
        asked = perf_counter()
        try:
            packet = next(self._packets)
        except StopIteration:
            raise SourceError("the stream ended") from None
        except (self._av.FFmpegError, OSError) as error:
            raise SourceError(f"the connection failed ({reason(error)})") from None
        arrived = perf_counter()
        if arrived - asked > _WAITED_SECONDS:
            self._waited = arrived
        if not packet.size:
            raise SourceError("the stream ended")
        return packet, arrived

    def _is_skipped(self, packet: Any, arrived: float) -> bool:
        """Whether a packet belongs to a backlog or a flood, which end at a frame that stands alone."""
        if arrived - self._second >= 1:
            self._second, self._in_second = arrived, 0
        behind = arrived - self._waited > BEHIND_SECONDS
        flooded = self._in_second >= MAX_RATE
        if (behind or flooded) and not self.skipped:
            cause = f"sends more than {MAX_RATE} frames a second" if flooded else "is faster than its decoding"
            log.info("the stream %s: frames are skipped to catch up whenever it falls behind", cause)
        alone = packet.is_keyframe or self._only_key_frames
        if alone and arrived - self._last > MAX_SKIPPED_SECONDS:
            self._skips = False
        else:
            self._skips = behind or flooded or (self._skips and not alone)
        if self._skips:
            self.skipped += 1
            if flooded:
                sleep(_FLOOD_PAUSE)
        else:
            self._last, self._in_second = arrived, self._in_second + 1
        return self._skips

    def close(self) -> None:
        self._container.close()
