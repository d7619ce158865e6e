"""Finds the images and videos behind file names, folders, patterns and lists."""

from __future__ import annotations

import contextlib
import glob
import logging
import mimetypes
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pumpseg.errors import SourceError
from pumpseg.images import IMAGE_SUFFIXES
from pumpseg.redaction import redacted
from pumpseg.video.sources.capture import device_of
from pumpseg.video.sources.container import is_url
from pumpseg.video.sources.media_kind import VIDEO_SUFFIXES, MediaKind, kind_of

log = logging.getLogger("pumpseg")

LIST_SUFFIX = ".txt"
STANDARD_INPUT = "-"

_PATTERN = re.compile(r"[*?\[]")
_KNOWN = IMAGE_SUFFIXES | VIDEO_SUFFIXES
_TYPES = mimetypes.MimeTypes()  # those that Python knows, the same on every machine


@dataclass(frozen=True)
class InputFile:
    """An image or video that a user named, alone or among others.

    path: as named. place: path of its results in a folder of results: the file's name, or its path below the folder
    or the fixed part of the pattern that it was found by.
    """

    path: Path
    place: Path

    @cached_property
    def is_image(self) -> bool:
        """Whether it is read as an image, by its content."""
        with contextlib.suppress(OSError):
            if self.path.is_file():  # a pipe is not to be opened
                return kind_of(self.path) is MediaKind.IMAGE
        return self.path.suffix.lower() in IMAGE_SUFFIXES


def is_file_like(name: str | Path) -> bool:
    """Whether a name means files on this machine, rather than a camera, a URL, a pipe or the demo."""
    text = str(name)
    return not (device_of(text) is not None or is_url(text) or is_pipe(text) or text == "demo")


def is_pipe(name: str) -> bool:
    """Whether a name means standard input or a named pipe."""
    with contextlib.suppress(OSError, ValueError):  # a name that is too long, or no name
        return name == STANDARD_INPUT or Path(name).is_fifo()
    return False


def find_files(names: Sequence[str | Path], results: Path | None = None) -> list[InputFile]:
    """The images and videos behind file names, folders, patterns and .txt lists, each once, in the order named.

    Folders and patterns are sorted by name. results: a folder whose files are not inputs of a pattern above it.
    Raises SourceError for what is missing, inaccessible or of an unknown format.
    """
    found: dict[str, InputFile] = {}
    for name in names:
        try:
            files = _named_files(str(name), results)
        except SourceError:
            raise
        except OSError as error:
            raise SourceError(f"{str(name)[:200]} cannot be accessed: {error.strerror}") from None
        for file in files:
            found.setdefault(os.path.realpath(file.path), file)
    return list(found.values())


def check_file(path: Path) -> None:
    """Raise SourceError unless it is a regular file, which has an end, and its name is valid text."""
    check_name(path)
    if not path.is_file():
        raise SourceError(f"{path} is not a regular file" if path.exists() else f"no such file: {path}")


def check_name(path: Path) -> None:
    """Raise SourceError unless a name is valid text."""
    try:
        str(path).encode()
    except UnicodeEncodeError:  # Linux takes any bytes, and Python keeps invalid UTF-8 as surrogates
        raise SourceError(f"{str(path)!a}: the name is not UTF-8: rename the file") from None


def _named_files(name: str, results: Path | None) -> list[InputFile]:
    if not name:
        raise SourceError("the name of a source is empty")
    if not is_file_like(name):
        kind = "a pipe" if is_pipe(name) else "not a file"
        raise SourceError(
            f"{redacted(name)} is {kind}: only files can be one of several sources, or be saved with --save-dir"
        )
    path = Path(name)
    if path.is_dir():
        inside = [InputFile(child, Path(child.name)) for child in _known(sorted(path.iterdir()))]
        if not inside:
            raise SourceError(f"the folder {name} has no images or videos")
        return inside
    if path.is_file():
        if path.suffix.lower() == LIST_SUFFIX:
            return _listed_files(path, results)
        if kind_of(path) is None:
            raise SourceError(
                f"{path} is not an image or video that can be read: export photos as JPEG or PNG, videos as MP4"
            )
        return [InputFile(path, Path(path.name))]
    if path.exists():
        raise SourceError(f"{name} is a device or socket, not a file")
    if _PATTERN.search(name):
        return _matching_files(name, results)
    raise SourceError(f"no such file or folder: {redacted(name)}")


def _matching_files(pattern: str, results: Path | None) -> list[InputFile]:
    paths = [Path(match) for match in glob.glob(pattern, recursive=True)]  # noqa: PTH207
    fixed = Path()
    for part in Path(pattern).parts[:-1]:
        # Brackets may be part of a folder's name, where they match nothing as a pattern.
        if _PATTERN.search(part) and (paths or not (fixed / part).is_dir()):
            break
        fixed /= part
    if not paths:
        literal = glob.escape(str(fixed))
        rest = Path(pattern).relative_to(fixed)
        paths = [Path(match) for match in glob.glob(f"{literal}/{rest}", recursive=True)]  # noqa: PTH207
    if results is not None and not fixed.resolve().is_relative_to(results.resolve()):
        # Results of an earlier run are not inputs of the next.
        paths = [path for path in paths if not path.resolve().is_relative_to(results.resolve())]
    if not paths:
        raise SourceError(f"the pattern {pattern} matches nothing")
    known = [InputFile(path, path.relative_to(fixed)) for path in _known(sorted(paths))]
    if not known:
        raise SourceError(f"the pattern {pattern} matches {len(paths)} paths but no image or video")
    return known


def _listed_files(path: Path, results: Path | None) -> list[InputFile]:
    """Files named line by line, relative to the list's folder; lines that start with # are skipped."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"cannot read the list {path}: {error}") from None
    files: list[InputFile] = []
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        try:
            if Path(line).suffix.lower() == LIST_SUFFIX:
                raise SourceError(f"{line} is a list itself")
            files += _named_files(str(path.parent / line) if is_file_like(line) else line, results)
        except SourceError as error:
            raise SourceError(f"line {number} of {path}: {error}") from None
    if not files:
        raise SourceError(f"the list {path} names no files")
    return files


def _known(paths: Iterable[Path]) -> list[Path]:
    """The images and videos among files that were not named themselves; a warning counts those that cannot be read."""
    known, unreadable = [], []
    for path in paths:
        # Outputs that are still being written are hidden files.
        if path.name.startswith(".") or path.is_dir():
            continue
        named = _TYPES.guess_type(path.name)[0]
        if path.suffix.lower() in _KNOWN:
            known.append(path)
        elif named is None or named.startswith(("video/", "image/")):
            if path.is_file() and kind_of(path) is not None:
                known.append(path)
            elif named is not None:
                unreadable.append(path)
    if unreadable:
        log.warning("left out: %d files of formats that cannot be read, such as %s", len(unreadable), unreadable[0])
    return known
