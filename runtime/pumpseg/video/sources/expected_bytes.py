"""How many bytes a file should have, so that one that was cut short is recognised."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO


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
