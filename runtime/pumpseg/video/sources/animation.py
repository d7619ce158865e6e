"""Animated WebP, which FFmpeg does not read."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import numpy as np

from pumpseg.errors import SourceError
from pumpseg.images import read_image_file
from pumpseg.opencv import cv2
from pumpseg.video.sources.frame_source import Frame, Source, VideoTiming

_MAX_BYTES = 1 << 31  # of all frames, which are in memory at the same time
_USUAL_MS = 100  # what browsers show a frame for that has no duration


class AnimationSource(Source):
    """The frames of an animated WebP, at their times; transparency is dropped.

    Raises SourceError if it is damaged or takes more than 2 GiB.
    """

    timing: VideoTiming

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.inputs = (path,)
        data = read_image_file(path)
        width, height = (1 + int.from_bytes(data[place : place + 3], "little") for place in (24, 27))
        self.length = data.count(b"ANMF")
        if 4 * width * height * self.length > _MAX_BYTES:
            raise SourceError(f"{path} has {self.length} frames of {width}x{height}: convert it to a video")
        try:
            read, self._animation = cv2.imdecodeanimation(np.frombuffer(data, np.uint8))
        except cv2.error:
            read = False
        if not read or not self._animation.frames:
            raise SourceError(f"{path} is damaged, or not an animation that OpenCV reads")
        self.length = len(self._animation.frames)
        durations = [int(ms) or _USUAL_MS for ms in np.ravel(self._animation.durations)]
        self._moments = [0, *accumulate(durations[:-1])]
        self.timing = VideoTiming(Fraction(1, 1000), Fraction(1000 * len(durations), sum(durations)))

    def __iter__(self) -> Iterator[Frame]:
        for index, (image, moment) in enumerate(zip(self._animation.frames, self._moments, strict=True)):
            bgr = cv2.cvtColor(image, cv2.COLOR_BGRA2BGR) if image.shape[2] == 4 else image
            yield Frame(bgr, self.name, index, moment / 1000, moment)  # type: ignore[arg-type]
