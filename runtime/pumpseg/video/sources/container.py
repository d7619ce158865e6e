"""Opens videos and images with FFmpeg (PyAV), and finds the film among their streams."""

from __future__ import annotations

import itertools
import re
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

from pumpseg.errors import require

MAX_FRAME_PIXELS = 1 << 26
"""Of a video or a stream: 8192x8192. A pipeline holds a dozen frames."""
OPEN_SECONDS = 10.0
READ_SECONDS = 10.0
_END_SECONDS = 0.5  # libav asks ten times a second
_WAITING_THREADS = ("pumpseg-open", "pumpseg-camera", "pumpseg-feed")

_URL = re.compile(r"(rtsp|rtsps|rtmp|rtmps|http|https|srt|udp|rtp)://", re.IGNORECASE)
_STILL_CODECS = ("mjpeg", "png", "bmp", "webp", "tiff", "gif")
# Protocols of FFmpeg that each kind of URL is made of. With no others a redirect or a playlist leads to no local file
# and to no other scheme. crypto decrypts the segments of an HLS playlist.
_PROTOCOLS = {
    "http": "http,tcp,crypto",
    "https": "https,tls,tcp,httpproxy,crypto",
    "rtsp": "rtp,udp,tcp",
    "rtsps": "rtp,srtp,udp,tls,tcp",
    "rtmp": "rtmp,tcp",
    "rtmps": "rtmps,tls,tcp",
    "srt": "srt",
    "udp": "udp",
    "rtp": "rtp,udp",
}


def import_av() -> Any:
    """The av module, its logging off. Raises PumpsegError naming the extra if it is not installed."""
    av = require("av", extra="video")
    # Failures arrive as exceptions; libav would print them on the user's terminal as well.
    av.logging.set_level(None)
    return av


def is_url(name: str) -> bool:
    """Whether a source is named by a URL that PyAV opens."""
    return _URL.match(name) is not None


def open_container(location: Path | str | BinaryIO, options: Mapping[str, str] = {}, **more: Any) -> Any:
    """The open container of a file, a URL or a stream of bytes; options: of the demuxer, more: of `av.open`.

    A path is always a file, whatever its name looks like, and leads to nothing but files. No URL is waited for longer
    than OPEN_SECONDS, then READ_SECONDS for each packet. Frames of more than MAX_FRAME_PIXELS are not decoded.
    Raises FFmpegError or OSError.
    """
    if isinstance(location, str) and is_url(location):
        protocols = _PROTOCOLS[location.partition(":")[0].lower()]
        more["timeout"] = (OPEN_SECONDS, READ_SECONDS)
    elif isinstance(location, (str, Path)):
        # FFmpeg would take 12:30:05.mp4 for a URL of the protocol 12.
        location, protocols = f"file:{location}", "file"
    else:
        protocols = "none"
    allowed = {"protocol_whitelist": protocols}
    # Opening a container decodes the first frames of its streams.
    limits = {"max_pixels": str(MAX_FRAME_PIXELS)}

    def action() -> Any:
        # Old cameras write titles in the character set of their country.
        return import_av().open(location, options={**allowed, **limits, **options}, metadata_errors="replace", **more)

    container = _interruptible(action) if "timeout" in more else action()
    for stream in container.streams.video:
        if stream.codec_context is not None:
            stream.codec_context.options = limits
    return container


def _interruptible(opening: Callable[[], Any]) -> Any:
    """What `opening` returns, from a thread of its own: Python handles no signal while libav waits for a network."""
    opened: Future[Any] = Future()

    def work() -> None:
        try:
            opened.set_result(opening())
        except BaseException as error:
            opened.set_exception(error)

    threading.Thread(target=work, name="pumpseg-open", daemon=True).start()
    try:
        return opened.result()
    finally:
        if not opened.done():
            opened.add_done_callback(lambda late: late.exception() or late.result().close())


def _end_waits() -> None:
    """At the end of the program, end all waits for a network.

    While libav waits, in threads that nobody has to wait for, it asks PyAV ten times a second whether the time is over,
    and PyAV asks Python for the time: a segmentation fault once the interpreter has ended. So the time is over now.
    """
    waiting = [thread for thread in threading.enumerate() if thread.name in _WAITING_THREADS]
    if not waiting or "av" not in sys.modules:
        return
    # Each time that it is asked the clock of this module of PyAV, and of no other, is far ahead.
    sys.modules["av"].container.core.time = SimpleNamespace(monotonic=itertools.count(2**50, 2**20).__next__)
    deadline = time.monotonic() + _END_SECONDS
    for thread in waiting:
        thread.join(max(0.0, deadline - time.monotonic()))


# At the end, the newest first: that is after the cameras have been told to close.
weakref.finalize(_end_waits, _end_waits)


def film(container: Any) -> Any:
    """The video stream to read: the largest film that can be decoded, never a cover; None if there is none."""
    attached = import_av().stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & attached]
    return max(streams, key=_rank, default=None)


def _rank(stream: Any) -> tuple[bool, bool, int]:
    codec = stream.codec_context
    if codec is None:
        return False, False, 0
    # Posters and thumbnails may be ordinary streams next to the film.
    return True, stream.frames != 1 and codec.name not in _STILL_CODECS, codec.width * codec.height


def reason(error: Exception) -> str:
    """What FFmpeg or the system says about a failure."""
    if isinstance(error, import_av().error.ExitError):
        return f"nothing was received for {READ_SECONDS:g} s"
    return getattr(error, "strerror", None) or str(error)
