"""Numbers of things in messages."""

from __future__ import annotations


def counted(count: int, one: str, many: str = "") -> str:
    """How many of a thing; many: its plural, if that does not end in -s.

    >>> counted(1, "frame"), counted(0, "frame"), counted(2, "batch", "batches")
    ('1 frame', '0 frames', '2 batches')
    """
    return f"{count} {one if count == 1 else many or f'{one}s'}"
