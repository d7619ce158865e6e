"""Opens what a user names: images (images.py), a video (video_file.py), a camera or stream (camera.py)."""

from __future__ import annotations

import glob
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pumpseg.errors import SourceError
from pumpseg.images import IMAGE_SUFFIXES
from pumpseg.video.sources.camera import Camera
from pumpseg.video.sources.capture import (
    DEFAULT_CAMERA,
    CameraSettings,
    Capture,
    DeviceCapture,
    StreamCapture,
    is_finite,
    is_still,
    open_url,
    redacted,
)
from pumpseg.video.sources.container import is_url
from pumpseg.video.sources.frame_source import Source
from pumpseg.video.sources.images import ImageSource, LinkedImage
from pumpseg.video.sources.video_file import VideoSource

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts"}
    | {".webm", ".wmv"}
)
LIST_SUFFIX = ".txt"
DEMO_CLIP = Path(__file__).parents[2] / "demo" / "pumpkins.mp4"

_WEBCAM = re.compile(r"webcam(?::(\d{1,3}))?")
_DEVICE = re.compile(r"/dev/(video\d+|v4l/.+)")
_PATTERN = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class InputFile:
    """An image or video that a user named, alone or among others.

    path: as named. place: path of its results in a folder of results: the file's name, or its path below the folder
    or the fixed part of the pattern that it was found by.
    """

    path: Path
    place: Path

    @property
    def is_image(self) -> bool:
        return self.path.suffix.lower() in IMAGE_SUFFIXES


def open_source(
    source: str | Path, *more: str | Path, camera: CameraSettings = DEFAULT_CAMERA, reconnect_timeout: float = math.inf
) -> Source:
    """The source that a user names, or one of any number of images.

    "webcam" or "webcam:N" (camera N, 0 by default), a device (/dev/video0), an rtsp, http, rtmp, srt or udp
    URL, "demo" (the clip that comes with the package), a video file, an image, a folder of images, a glob
    pattern that matches images or one video, or a .txt file that lists such files.

    camera: what is requested of a camera device. reconnect_timeout: seconds to try to reopen a lost camera or stream.
    Raises SourceError for anything else, and for what cannot be opened.

    >>> from pumpseg import open_source
    >>> with open_source("demo") as source:
    ...     frame = next(iter(source))
    >>> frame.index, frame.time, frame.image.shape
    (0, 0.0, (480, 640, 3))
    """
    if more:
        return _open_files(f"{1 + len(more)} sources", find_files([source, *more]))
    name = str(source)
    if not name:
        raise SourceError("the name of the source is empty")
    webcam = _WEBCAM.fullmatch(name)
    device = int(webcam[1] or 0) if webcam else name if _DEVICE.fullmatch(name) else None
    if device is not None:
        return Camera(name, lambda: DeviceCapture(device, camera), reconnect_timeout=reconnect_timeout)
    if is_url(name):
        return _open_url(name, reconnect_timeout)
    if name == "demo":
        if not DEMO_CLIP.is_file():
            raise SourceError("the demo clip is missing from this installation")
        return VideoSource(DEMO_CLIP, name="demo")
    return _open_files(name, find_files([name]))


def is_file_like(name: str | Path) -> bool:
    """Whether a name means files on this machine, rather than a camera, a URL or the demo."""
    text = str(name)
    return not (_WEBCAM.fullmatch(text) or _DEVICE.fullmatch(text) or is_url(text) or text == "demo")


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
    _check_name(path)
    if not path.is_file():
        raise SourceError(f"{path} is not a regular file" if path.exists() else f"no such file: {path}")


def _check_name(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:  # Linux takes any bytes, and Python keeps invalid UTF-8 as surrogates
        raise SourceError(f"{str(path)!a}: the name is not UTF-8: rename the file") from None


def _named_files(name: str, results: Path | None) -> list[InputFile]:
    if not name:
        raise SourceError("the name of a source is empty")
    if not is_file_like(name):
        raise SourceError(
            f"{redacted(name)} is not a file: only files can be one of several sources, or be saved with --save-dir"
        )
    path = Path(name)
    if path.is_dir():
        inside = [InputFile(child, Path(child.name)) for child in sorted(path.iterdir()) if _is_known(child)]
        if not inside:
            raise SourceError(f"the folder {name} has no images or videos ({_listed(_KNOWN)})")
        return inside
    if path.is_file():
        if path.suffix.lower() == LIST_SUFFIX:
            return _listed_files(path, results)
        if not _is_known(path):
            raise SourceError(
                f"{path} has an unknown format {path.suffix.lower() or '(no suffix)'}; "
                f"images: {_listed(IMAGE_SUFFIXES)}; videos: {_listed(VIDEO_SUFFIXES)}"
            )
        return [InputFile(path, Path(path.name))]
    if _PATTERN.search(name):
        return _matching_files(name, results)
    raise SourceError(f"no such file or folder: {name}")


def _matching_files(pattern: str, results: Path | None) -> list[InputFile]:
    paths = sorted(Path(match) for match in glob.glob(pattern, recursive=True))  # noqa: PTH207
    fixed = []
    for part in Path(pattern).parts[:-1]:
        if _PATTERN.search(part):
            break
        fixed.append(part)
    if results is not None and not Path(*fixed).resolve().is_relative_to(results.resolve()):
        # Results of an earlier run are not inputs of the next.
        paths = [path for path in paths if not path.resolve().is_relative_to(results.resolve())]
    if not paths:
        raise SourceError(f"the pattern {pattern} matches nothing")
    known = [InputFile(path, path.relative_to(Path(*fixed))) for path in paths if _is_known(path)]
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


def _open_files(name: str, files: Sequence[InputFile]) -> Source:
    for file in files:
        _check_name(file.path)
    videos = [file.path for file in files if not file.is_image]
    if not videos:
        return ImageSource(name, [file.path for file in files])
    if len(files) == 1:
        return VideoSource(videos[0])
    raise SourceError(
        f"{name}: {len(videos)} videos and {len(files) - len(videos)} images are not one source; "
        "use --save-dir to process each by itself"
    )


def _open_url(url: str, reconnect_timeout: float) -> Source:
    name = redacted(url)
    try:
        container = open_url(url)
        if is_still(container) or is_finite(container):
            container.close()
            container = open_url(url, live=False)
            return LinkedImage(container, name) if is_still(container) else VideoSource(url, name, container=container)
    except SourceError as error:
        raise SourceError(f"{name} {error}") from None
    opened = [container]

    def connect() -> Capture:
        return StreamCapture(opened.pop() if opened else open_url(url))

    return Camera(name, connect, reconnect_timeout=reconnect_timeout)


def _is_known(path: Path) -> bool:
    # Outputs that are still being written are hidden files.
    return path.suffix.lower() in _KNOWN and not path.name.startswith(".") and not path.is_dir()


_KNOWN = IMAGE_SUFFIXES | VIDEO_SUFFIXES


def _listed(suffixes: frozenset[str]) -> str:
    return " ".join(sorted(suffixes))
