"""Standard output and standard error of a command: a failed write never ends the work."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TextIO, cast


class BestEffortStream:
    """A text stream whose writes never raise; what its encoding cannot express is escaped.

    After the first failed write (a full disk, a closed terminal, a reader that left) the rest is dropped. Bytes that
    are written to `buffer` are results, and raise as ever. stream: None if whoever started this closed it.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._used = False
        self._failure: str | None = None
        self._lock = threading.RLock()

    def write(self, text: str) -> int:
        with self._lock:
            self._used = True
            try:
                self._try(lambda stream: stream.write(text))
            except UnicodeEncodeError:
                escaped = text.encode(self.encoding, "backslashreplace").decode(self.encoding)
                self._try(lambda stream: stream.write(escaped))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        with self._lock:
            self._try(lambda stream: stream.flush())

    def isatty(self) -> bool:
        return self._stream is not None and not self._stream.closed and self._stream.isatty()

    @property
    def encoding(self) -> str:
        return getattr(self._stream, "encoding", None) or "utf-8"

    def failure(self) -> str | None:
        """Why text that was written did not arrive, or None."""
        if self._used:
            self.flush()
        return self._failure

    def release(self) -> None:
        """Keep Python from complaining at its exit about what could not be written."""
        if self._stream is None:
            return
        try:
            self._stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def _try(self, action: Callable[[TextIO], object]) -> None:
        if self._failure is not None:
            return
        if self._stream is None:
            self._failure = "it is closed"
            return
        try:
            action(self._stream)
        except UnicodeEncodeError:
            raise
        except (OSError, ValueError) as error:  # ValueError: the file is closed
            self._failure = getattr(error, "strerror", None) or str(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def best_effort_streams() -> Iterator[BestEffortStream]:
    """Make `sys.stdout` and `sys.stderr` best effort; yields the former."""
    before = sys.stdout, sys.stderr
    streams = [BestEffortStream(stream) for stream in before]
    sys.stdout, sys.stderr = cast("list[TextIO]", streams)
    try:
        yield streams[0]
    finally:
        sys.stdout, sys.stderr = before
        for stream in streams:
            stream.release()
