"""Still images."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pumpseg.errors import SourceError
from pumpseg.images import read_image
from pumpseg.video.sources.bgr import BgrConverter
from pumpseg.video.sources.container import import_av
from pumpseg.video.sources.frame_source import Frame, Source

log = logging.getLogger("pumpseg")


class ImageSource(Source):
    """Image files in order. Orientation tags are honoured.

    One unreadable image among several is logged, counted in `failed` and left out. If the only image or all of them
    are unreadable, SourceError is raised.
    """

    def __init__(self, name: str, paths: Sequence[Path]) -> None:
        self.name = name
        self.inputs = tuple(paths)
        self.length = len(paths)

    def __iter__(self) -> Iterator[Frame]:
        for path in self.inputs:
            try:
                image = read_image(path)
            except SourceError as error:
                self.failed += 1
                if self.failed == len(self.inputs):
                    raise
                log.warning("left out: %s", error)
                continue
            yield Frame(image, str(path), 0, 0.0)


class LinkedImage(Source):
    """The still image behind a URL, opened as `container`."""

    length = 1

    def __init__(self, container: Any, name: str) -> None:
        self.name = name
        self._container = container

    def __iter__(self) -> Iterator[Frame]:
        av = import_av()
        try:
            decoded = next(self._container.decode(video=0), None)
        except (av.FFmpegError, OSError):
            decoded = None
        if decoded is None:
            raise SourceError(f"{self.name} is damaged, or not an image of a kind that FFmpeg reads")
        yield Frame(BgrConverter()(decoded), self.name, 0, 0.0)

    def close(self) -> None:
        self._container.close()
