"""Outputs appear under their name only when they are complete."""

from __future__ import annotations

import os
from pathlib import Path

from pumpseg.errors import SinkError


class PartialFile:
    """A temporary file beside `target`, made at once so that a place that cannot be written shows up early.

    Raises SinkError if it cannot be made.
    """

    def __init__(self, target: Path) -> None:
        if target.is_dir():
            raise SinkError(f"cannot write {target}: it is a folder")
        if target.exists() and not target.is_file():
            raise SinkError(f"cannot write {target}: it is no regular file")
        self.target = target
        # The suffix stays last: encoders choose the format by it.
        self.path = target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")
        try:
            self.path.touch()
            if target.exists() and not os.access(target, os.W_OK):
                self.path.unlink()
                raise PermissionError(13, "Permission denied")
        except OSError as error:
            raise SinkError(f"cannot write {target}: {error.strerror}") from None

    def complete(self) -> None:
        """Give the file its name, replacing what bore it before."""
        try:
            self.path.replace(self.target)
        except OSError as error:
            self.discard()
            raise SinkError(f"cannot write {self.target}: {error.strerror}") from None

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
