"""Opens what a user names: images (images.py), a video (video_file.py), a camera or stream (camera.py)."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Sequence
from pathlib import Path

from pumpseg.errors import SourceError
from pumpseg.redaction import redacted
from pumpseg.video.sources.animation import AnimationSource
from pumpseg.video.sources.camera import Camera
from pumpseg.video.sources.capture import (
    DEFAULT_CAMERA,
    CameraSettings,
    Capture,
    DeviceCapture,
    StreamCapture,
    device_of,
    is_finite,
    is_still,
    open_url,
)
from pumpseg.video.sources.container import import_av, is_url, open_container, reason
from pumpseg.video.sources.files import STANDARD_INPUT, InputFile, check_name, find_files, is_pipe
from pumpseg.video.sources.frame_source import Source
from pumpseg.video.sources.images import ImageSource, LinkedImage
from pumpseg.video.sources.media_kind import is_animated_webp
from pumpseg.video.sources.packet_ring import PacketRing
from pumpseg.video.sources.ring_capture import RingCapture
from pumpseg.video.sources.video_file import WHOLE, Section, VideoSource

log = logging.getLogger("pumpseg")

DEMO_CLIP = Path(__file__).parents[2] / "demo" / "pumpkins.mp4"


def open_source(
    source: str | Path,
    *more: str | Path,
    camera: CameraSettings = DEFAULT_CAMERA,
    reconnect_timeout: float = math.inf,
    ring: PacketRing | None = None,
) -> Source:
    """The source that a user names, or one of any number of images.

    "webcam" or "webcam:N" (camera N, 0 by default), a device (/dev/video0), an rtsp, http, rtmp, srt or udp
    URL, "demo" (the clip that comes with the package), a video file, an image, a folder of images, a glob
    pattern that matches images or one video, a .txt file that lists such files, or a pipe ("-" is standard input).

    camera: what is requested of a camera device. reconnect_timeout: seconds to try to reopen a lost camera or stream.
    ring: keeps the last seconds of a camera or stream as it sends them.
    Raises SourceError for anything else, and for what cannot be opened.

    >>> from pumpseg import open_source
    >>> with open_source("demo") as source:
    ...     frame = next(iter(source))
    >>> frame.index, frame.time, frame.image.shape
    (0, 0.0, (480, 640, 3))
    """
    if more:
        return _open_files(f"{1 + len(more)} sources", find_files([source, *more]))
    name = str(source)
    if not name:
        raise SourceError("the name of the source is empty")
    device = device_of(name)
    if device is not None:

        def open_device() -> Capture:
            capture = DeviceCapture(device, camera)
            return capture if ring is None else RingCapture(capture, ring)

        return Camera(name, open_device, reconnect_timeout=reconnect_timeout)
    if is_url(name):
        return _open_url(name, reconnect_timeout, ring)
    if is_pipe(name):
        return _open_pipe(name)
    if name == "demo":
        if not DEMO_CLIP.is_file():
            raise SourceError("the demo clip is missing from this installation")
        return VideoSource(DEMO_CLIP, name="demo")
    return _open_files(name, find_files([name]))


def open_video(path: Path, section: Section = WHOLE) -> Source:
    """A video or animated picture as a source; of a video only the frames of a section. Raises SourceError."""
    with contextlib.suppress(OSError):
        if is_animated_webp(path):
            return AnimationSource(path)
    return VideoSource(path, section=section)


def _open_files(name: str, files: Sequence[InputFile]) -> Source:
    for file in files:
        check_name(file.path)
    videos = [file.path for file in files if not file.is_image]
    if not videos:
        return ImageSource(name, [file.path for file in files])
    if len(files) == 1:
        return open_video(videos[0])
    raise SourceError(
        f"{name}: {len(videos)} videos and {len(files) - len(videos)} images are not one source; "
        "use --save-dir to process each by itself"
    )


def _open_url(url: str, reconnect_timeout: float, ring: PacketRing | None) -> Source:
    name = redacted(url)
    try:
        container = open_url(url)
        if is_still(container) or is_finite(container):
            container.close()
            container = open_url(url, live=False)
            return LinkedImage(container, name) if is_still(container) else VideoSource(url, name, container=container)
    except SourceError as error:
        raise SourceError(f"{name} {error}") from None
    opened = [container]

    def connect() -> Capture:
        return StreamCapture(opened.pop() if opened else open_url(url), ring)

    return Camera(name, connect, reconnect_timeout=reconnect_timeout)


def _open_pipe(name: str) -> Source:
    """A stream of bytes that can be read once, from its beginning."""
    standard = name == STANDARD_INPUT
    shown = "standard input" if standard else f"the pipe {name}"
    try:
        file = open(0 if standard else name, "rb", buffering=0, closefd=not standard)  # noqa: SIM115
        if file.isatty():
            raise SourceError("standard input is a terminal: pipe a video into it")
        container = open_container(file)
    except (import_av().FFmpegError, OSError, ValueError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(
            f"{shown} cannot be read as a video: {reason(error)}; MPEG-TS and Matroska can come through a pipe, and "
            "MP4 with its index at the beginning"
        ) from None
    if is_still(container):
        return LinkedImage(container, shown)
    source = VideoSource(None, shown, container=container)
    if container.streams.audio:
        log.warning("%s is read once, so its audio is left out", shown)
    return source
