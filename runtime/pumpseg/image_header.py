"""The size that the header of an image announces, before anything is decoded and memory taken for it."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

_JPEG_WITHOUT_SIZE = frozenset({0x01, 0xC4, 0xC8, 0xCC, *range(0xD0, 0xDA)})
_NETPBM = re.compile(rb"P[1-6fF]" + 2 * rb"(?:\s|#[^\n]*\n)+(\d{1,10})")
_PAM = re.compile(rb"P7\n(?:[^\n]*\n)*?WIDTH +(\d{1,10})\n(?:[^\n]*\n)*?HEIGHT +(\d{1,10})")
_RADIANCE = re.compile(rb"[-+]Y +(\d{1,10}) +[-+]X +(\d{1,10})\s")
_HEAD = 1 << 16  # bytes in which formats of text have their header
_TIFF_TYPES = {3: "H", 4: "I", 16: "Q"}


def image_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels of an image of a format that OpenCV reads; None if it is not one, or damaged.

    Of WebP nothing is read: its format ends at 16383 pixels a side.
    """
    try:
        if data.startswith(b"\x89PNG"):
            return struct.unpack_from(">II", data, 16)
        if data.startswith(b"\xff\xd8"):
            return _jpeg_size(data)
        if data.startswith(b"GIF8"):
            return struct.unpack_from("<HH", data, 6)
        if data.startswith(b"BM"):
            return _bmp_size(data)
        if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
            return _tiff_size(data)
        if data.startswith(b"\x59\xa6\x6a\x95"):  # Sun raster
            return struct.unpack_from(">II", data, 4)
        if data[4:8] == b"ftyp":
            return max(_heif_sizes(data), key=lambda size: size[0] * size[1], default=None)
        if data.startswith((b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51")):
            return _jpeg_2000_size(data)
        if data.startswith(b"#?") and (match := _RADIANCE.search(data, 0, _HEAD)):
            return int(match[2]), int(match[1])
        if match := _NETPBM.match(data, 0, _HEAD) or _PAM.match(data, 0, _HEAD):
            return int(match[1]), int(match[2])
    except (struct.error, IndexError):
        pass
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """From the frame header, SOF0 to SOF15 (ITU-T T.81, section B.2.2)."""
    at = 2
    while (at := data.find(b"\xff", at)) >= 0:
        marker = data[at + 1]
        at += 1
        if marker in (0x00, 0xFF):
            continue
        if 0xC0 <= marker <= 0xCF and marker not in _JPEG_WITHOUT_SIZE:
            height, width = struct.unpack_from(">HH", data, at + 4)
            return width, height
        at += 1
        if marker not in _JPEG_WITHOUT_SIZE or marker in (0xC4, 0xC8, 0xCC):
            at += int.from_bytes(data[at : at + 2], "big")
    return None


def _bmp_size(data: bytes) -> tuple[int, int]:
    if int.from_bytes(data[14:18], "little") == 12:
        return struct.unpack_from("<HH", data, 18)
    width, height = struct.unpack_from("<ii", data, 18)
    return abs(width), abs(height)  # upside down below 0


def _tiff_size(data: bytes) -> tuple[int, int] | None:
    """From the tags 256 and 257 of the first directory (TIFF 6.0, section 2, and BigTIFF)."""
    order, big = ("<" if data.startswith(b"II") else ">"), b"+" in data[2:4]
    (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
    at += 8 if big else 2
    size = {}
    for entry in range(at, at + min(count, 4096) * (20 if big else 12), 20 if big else 12):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if tag in (256, 257) and kind in _TIFF_TYPES:
            (size[tag],) = struct.unpack_from(order + _TIFF_TYPES[kind], data, entry + (12 if big else 8))
    return (size[256], size[257]) if len(size) == 2 else None


def _heif_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """Of AVIF: every property "ispe" (ISO/IEC 23008-12, section 6.5.3)."""
    at = 0
    while (at := data.find(b"ispe", at + 1, _HEAD)) >= 0:
        yield struct.unpack_from(">II", data, at + 8)


def _jpeg_2000_size(data: bytes) -> tuple[int, int] | None:
    """From the marker SIZ of the codestream (ITU-T T.800, section A.5.1)."""
    at = data.find(b"\xff\x4f\xff\x51")
    if at < 0:
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", data, at + 8)
    return right - left, bottom - top
