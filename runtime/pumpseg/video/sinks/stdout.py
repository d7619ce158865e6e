"""Standard output for results."""

from __future__ import annotations

import sys
from typing import BinaryIO

from pumpseg.errors import SinkError


def open_stdout() -> BinaryIO:
    """Standard output for bytes, which raise OSError when lost. Raises SinkError if it is closed."""
    buffer: BinaryIO | None = getattr(sys.stdout, "buffer", None)
    if buffer is None:
        raise SinkError("standard output is closed")
    return buffer
