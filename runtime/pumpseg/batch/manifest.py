"""Which inputs of a folder of results are done, so that an interrupted batch can resume."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pumpseg.errors import SinkError

log = logging.getLogger("pumpseg")

MANIFEST = "manifest.jsonl"


@dataclass(frozen=True)
class Fingerprint:
    """size: bytes. sha256: of the content, hex."""

    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Fingerprint:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(path.stat().st_size, digest)


@dataclass(frozen=True)
class Entry:
    """An input that is done. outputs: files and folders below the folder of results, each file's size by its name."""

    fingerprint: Fingerprint
    settings: Mapping[str, Any]
    outputs: Mapping[str, int]
    frames: int
    instances: int


class Manifest:
    """The finished inputs of a folder of results: one JSON line each, appended when an input is done.

    Inputs are identified by their absolute path. Of two lines for one input the later counts; a last line that was
    cut off by a crash is dropped. Raises SinkError for a file that is not a manifest or cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / MANIFEST
        self._folder = folder
        self._entries: dict[str, Entry] = {}
        try:
            content = self.path.read_bytes() if self.path.exists() else b""
        except OSError as error:
            raise SinkError(f"cannot read {self.path}: {error.strerror}") from None
        lines = content.split(b"\n")
        for number, line in enumerate(lines[:-1], 1):
            self._read(line, number)
        self._cut_off = len(lines[-1])

    def is_done(self, path: Path, settings: Mapping[str, Any]) -> Entry | None:
        """The entry of an input if it, the settings and its outputs have not changed; else None."""
        entry = self._entries.get(str(path.resolve()))
        if entry is None or entry.settings != settings:
            return None
        for name, size in entry.outputs.items():
            output = self._folder / name
            if not output.is_file() or output.stat().st_size != size:
                return None
        # The size is cheap to compare; the whole file is read only if it is equal.
        if path.stat().st_size != entry.fingerprint.size or Fingerprint.of(path) != entry.fingerprint:
            return None
        return entry

    def add(self, path: Path, entry: Entry) -> None:
        """Record that an input is done; it is on the disk when this returns. Raises SinkError."""
        self._entries[str(path.resolve())] = entry
        record = {
            "input": str(path.resolve()),
            "size": entry.fingerprint.size,
            "sha256": entry.fingerprint.sha256,
            "settings": dict(entry.settings),
            "outputs": dict(entry.outputs),
            "frames": entry.frames,
            "instances": entry.instances,
        }
        line = json.dumps(record, ensure_ascii=False, sort_keys=True).encode() + b"\n"
        try:
            with self.path.open("r+b" if self._cut_off else "ab") as file:
                if self._cut_off:
                    file.seek(-self._cut_off, os.SEEK_END)
                    file.truncate()
                    self._cut_off = 0
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise SinkError(f"cannot write {self.path}: {error.strerror}") from None

    def _read(self, line: bytes, number: int) -> None:
        try:
            record = json.loads(line)
            self._entries[record["input"]] = Entry(
                Fingerprint(int(record["size"]), str(record["sha256"])),
                dict(record["settings"]),
                {str(name): int(size) for name, size in record["outputs"].items()},
                int(record["frames"]),
                int(record["instances"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise SinkError(
                f"line {number} of {self.path} is damaged ({type(error).__name__}): remove it to repeat its input"
            ) from None


def output_sizes(folder: Path, outputs: Sequence[Path]) -> dict[str, int]:
    """Every file among or inside `outputs`, named from `folder` with forward slashes, and its size."""
    files = [path for output in outputs for path in ([output] if output.is_file() else sorted(output.rglob("*")))]
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files if path.is_file()}
