"""The frames of all rows, taken from a source once and kept in a file, so that reading costs each row the same."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pumpseg.errors import SourceError
from pumpseg.redaction import redacted
from pumpseg.segmenter import Segmenter
from pumpseg.video.sources.open import open_source

SYNTHETIC = "synthetic"
CAMERA = "camera"
DISTINCT = 30
_CAMERA_STRIDE = 3
_SYNTHETIC_SIZE = (480, 640)


@dataclass(frozen=True)
class FrameFile:
    """Raw frames, uint8 BGR (count, height, width, 3), one after the other in a file."""

    path: Path
    count: int
    height: int
    width: int

    def read(self, index: int, out: NDArray[np.uint8]) -> None:
        """Read one frame into `out`, uint8 (height, width, 3); the index wraps around."""
        with self.path.open("rb") as file:
            file.seek(index % self.count * out.nbytes)
            file.readinto(out.data)

    def empty(self) -> NDArray[np.uint8]:
        """Room for one frame."""
        return np.empty((self.height, self.width, 3), np.uint8)


def write_frames(source: str, path: Path, distinct: int = DISTINCT) -> FrameFile:
    """Take up to `distinct` frames, evenly spaced, from a source and write them to `path`.

    source: "synthetic", "camera" or "camera:N", or whatever pumpseg-video takes. All frames get the size of the first.
    Raises SourceError if the source gives none.
    """
    images = list(_synthetic(distinct)) if source == SYNTHETIC else _sampled(source, distinct)
    if not images:
        raise SourceError(f"{redacted(source)} has no frame")
    height, width = images[0].shape[:2]
    with path.open("wb") as file:
        for image in images:
            same = image if image.shape == images[0].shape else cv2.resize(image, (width, height))
            file.write(np.ascontiguousarray(same).tobytes())
    return FrameFile(path, len(images), height, width)


def showing(count: int, images: Iterable[NDArray[np.uint8]], segmenter: Segmenter) -> Iterator[NDArray[np.uint8]]:
    """The frames, uint8 BGR, with at least `count` instances, any further ones covered by grey boxes.

    Leaves out frames where the grey changes the other detections.
    """
    for image in images:
        boxes = segmenter(image).boxes
        if len(boxes) < count:
            continue
        covered = image.copy()
        for x1, y1, x2, y2 in np.rint(boxes[count:]).astype(int):
            covered[y1:y2, x1:x2] = 127
        if len(boxes) == count or len(segmenter(covered)) == count:
            yield covered


def _sampled(name: str, distinct: int) -> list[NDArray[np.uint8]]:
    if name == CAMERA or name.startswith(f"{CAMERA}:"):
        name = name.replace(CAMERA, "webcam", 1)
    with contextlib.closing(open_source(name)) as source:
        stride = max(1, source.length // distinct) if source.length else _CAMERA_STRIDE
        return [frame.image for frame in islice(source, 0, stride * (distinct - 1) + 1, stride)]


def _synthetic(count: int) -> Iterator[NDArray[np.uint8]]:
    """Orange ribbed ellipses that drift over a noisy meadow, uint8 BGR."""
    height, width = _SYNTHETIC_SIZE
    rng = np.random.default_rng(0)
    meadow = rng.normal((60, 120, 90), 18, (height, width, 3)).clip(0, 255).astype(np.uint8)
    for i in range(count):
        image = meadow.copy()
        for k, (x, y, radius) in enumerate(((150, 300, 90), (360, 330, 70), (520, 250, 55))):
            centre = (int(x + 20 * np.sin(0.3 * i + k)), y)
            for rib in range(5, 0, -1):
                shade = 0.6 + 0.08 * (5 - rib)
                colour = (20 * shade, 120 * shade, 235 * shade)
                cv2.ellipse(image, centre, (radius * rib // 5, int(0.8 * radius)), 0, 0, 360, colour, cv2.FILLED)
            cv2.line(image, (centre[0], y - int(0.8 * radius)), (centre[0] + 6, y - radius), (40, 90, 70), 8)
        yield cv2.GaussianBlur(image, (3, 3), 0)  # type: ignore[misc]
