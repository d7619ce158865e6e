"""Whether a file is an image or a video: by its content, whatever its name."""

from __future__ import annotations

import contextlib
import struct
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from pumpseg.images import IMAGE_SUFFIXES
from pumpseg.video.sources.container import film, import_av, open_container

VIDEO_SUFFIXES = frozenset(
    {".264", ".265", ".3g2", ".3gp", ".apng", ".asf", ".avi", ".dav", ".divx", ".dv", ".f4v", ".flv", ".gif", ".h264"}
    | {".h265", ".hevc", ".ivf", ".m2t", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"}
    | {".mts", ".mxf", ".nut", ".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".y4m"}
)
# FFmpeg renders text as a video, and takes any file for an image of the kind that its suffix names.
_NOT_BY_CONTENT = ("tty", "bintext", "bin", "image2")
_PHOTO_BRANDS = (b"heic", b"heix", b"mif1", b"avif")  # FFmpeg reads only a tile of most


class MediaKind(Enum):
    """What a file is read as. An animated picture is a video."""

    IMAGE = "image"
    VIDEO = "video"


def kind_of(path: Path) -> MediaKind | None:
    """What a file is; None if it is neither.

    A damaged file is what its suffix says: reading it reports the damage. Raises OSError if it cannot be opened.
    """
    with path.open("rb") as file:
        picture = _picture_format(file)
        animated = (picture == "png" and _is_animated_png(file)) or (picture == "webp" and is_animated_webp(path))
    suffix = path.suffix.lower()
    if animated or (picture == "gif" and _has_packets(path, 2)):
        return MediaKind.VIDEO
    if picture == "jpeg" and suffix not in IMAGE_SUFFIXES:
        # A stream of JPEGs begins as a photo does.
        return MediaKind.VIDEO if _film_format(path) == "mjpeg" else MediaKind.IMAGE
    if picture is not None:
        return MediaKind.IMAGE
    if suffix in VIDEO_SUFFIXES or _film_format(path) is not None:
        return MediaKind.VIDEO
    return MediaKind.IMAGE if suffix in IMAGE_SUFFIXES else None


def is_animated_webp(path: Path) -> bool:
    """Whether a file is a WebP of several frames, which FFmpeg does not read."""
    with path.open("rb") as file:
        head = file.read(21)
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and bool(head[20] & 2)


def _picture_format(file: BinaryIO) -> str | None:
    head = file.read(12)
    for name, start in (("jpeg", b"\xff\xd8\xff"), ("png", b"\x89PNG"), ("gif", b"GIF8"), ("bmp", b"BM")):
        if head.startswith(start):
            return name
    if head.startswith((b"II*\0", b"MM\0*")):
        return "tiff"
    return "webp" if head[:4] == b"RIFF" and head[8:] == b"WEBP" else None


def _is_animated_png(file: BinaryIO) -> bool:
    """Whether a chunk acTL of more than one frame comes before the picture (PNG, third edition, section 11.3.2.1)."""
    file.seek(8)
    while len(header := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", header)
        if kind == b"acTL":
            return int.from_bytes(file.read(4), "big") > 1
        if kind == b"IDAT":
            break
        file.seek(length + 4, 1)
    return False


def _film_format(path: Path) -> str | None:
    """FFmpeg's name of a file's format if it has a film, else None."""
    with path.open("rb") as file:
        if file.read(12)[4:] in {b"ftyp" + brand for brand in _PHOTO_BRANDS}:
            return None
    with contextlib.suppress(import_av().FFmpegError, OSError, UnicodeEncodeError), open_container(path) as container:
        name = str(container.format.name)
        if film(container) is not None and name not in _NOT_BY_CONTENT and not name.endswith("_pipe"):
            return name
    return None


def _has_packets(path: Path, least: int) -> bool:
    with contextlib.suppress(import_av().FFmpegError, OSError), open_container(path) as container:
        packets = (packet for packet in container.demux(video=0) if packet.size)
        return all(next(packets, None) is not None for _ in range(least))
    return False
