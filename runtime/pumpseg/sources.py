"""From what a user names to frames: images here, video files in video_source.py, cameras in camera.py."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pumpseg.camera import Camera
from pumpseg.errors import SourceError
from pumpseg.frames import Frame, Source, VideoTiming
from pumpseg.video_source import VideoSource

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts"}
    | {".webm", ".wmv"}
)
DEMO_CLIP = Path(__file__).parent / "demo" / "pumpkins.mp4"


def open_source(source: str | Path) -> Source:
    """The source that a user names.

    "webcam" or "webcam:N" (camera N, 0 by default), "demo" (the clip that comes with the package), an rtsp or
    http URL, a video file, an image, a folder of images, or a glob pattern that matches images or one video.

    Raises SourceError, saying what was seen, for anything else.
    """
    name = str(source)
    camera = re.fullmatch(r"webcam(?::(\d+))?", name)
    if camera:
        return Camera(name, int(camera[1] or 0))
    if re.match(r"(rtsp|rtsps|rtmp|http|https)://", name):
        return Camera(name, name)
    if name == "demo":
        if not DEMO_CLIP.is_file():
            raise SourceError("the demo clip is missing from this installation")
        return VideoSource(DEMO_CLIP, name="demo")

    path = Path(source)
    if path.is_dir():
        images = sorted(child for child in path.iterdir() if child.suffix.lower() in IMAGE_SUFFIXES)
        if not images:
            raise SourceError(f"the folder {name} holds no images ({_listed(IMAGE_SUFFIXES)})")
        return ImageSource(name, images)
    if path.is_file():
        return _open_file(path)
    if re.search(r"[*?\[]", name):
        return _open_pattern(name)
    raise SourceError(f"no such file or folder: {name}")


def _open_file(path: Path) -> Source:
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return ImageSource(str(path), [path])
    if suffix in VIDEO_SUFFIXES:
        return VideoSource(path)
    raise SourceError(
        f"{path} is of an unknown format {suffix or '(no suffix)'}; "
        f"images: {_listed(IMAGE_SUFFIXES)}; videos: {_listed(VIDEO_SUFFIXES)}"
    )


def _open_pattern(pattern: str) -> Source:
    paths = sorted(Path(match) for match in glob.glob(pattern, recursive=True))  # noqa: PTH207
    if not paths:
        raise SourceError(f"the pattern {pattern} matches nothing")
    images = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
    videos = [path for path in paths if path.suffix.lower() in VIDEO_SUFFIXES]
    if images and not videos:
        return ImageSource(pattern, images)
    if len(videos) == 1 and not images:
        return VideoSource(videos[0])
    if videos:
        raise SourceError(
            f"the pattern {pattern} matches {len(videos)} videos and {len(images)} images: "
            "name one video, or images only"
        )
    raise SourceError(f"the pattern {pattern} matches {len(paths)} paths but no image and no video")


def _listed(suffixes: frozenset[str]) -> str:
    return " ".join(sorted(suffixes))


class ImageSource:
    """Image files, each one a source of a single frame. Orientation tags are honoured."""

    timing: VideoTiming | None = None
    live = False
    dropped = 0

    def __init__(self, name: str, paths: Sequence[Path]) -> None:
        self.name = name
        self.inputs = tuple(paths)
        self.length: int | None = len(paths)

    def __iter__(self) -> Iterator[Frame]:
        for path in self.inputs:
            yield Frame(read_image(path), str(path), 0, 0.0)

    def close(self) -> None:
        """Nothing stays open between images."""


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image as uint8 BGR (H, W, 3). Raises SourceError if it cannot be read or decoded."""
    try:
        encoded = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from None
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if len(encoded) else None
    if image is None:
        raise SourceError(f"{path} is damaged or not an image")
    return image  # type: ignore[return-value]
