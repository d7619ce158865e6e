"""What sources yield: frames, and the timing of the stream that they come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a source.

    image: uint8 BGR (H, W, 3). source: what the frame comes from, as the user named it. index: of the frame
    in it, from 0. time: seconds since the source's first frame. pts: the same as the container counts it,
    in units of the source's time_base; None where there is no container. arrived: when a live frame came in,
    in seconds on the clock of `time.perf_counter`; None where frames wait to be read. pixel_aspect: width of a pixel
    by its height, as it is to be shown.
    """

    image: NDArray[np.uint8]
    source: str
    index: int
    time: float
    pts: int | None = None
    arrived: float | None = None
    pixel_aspect: Fraction = Fraction(1)


@dataclass(frozen=True)
class VideoTiming:
    """How a video counts time. time_base: seconds of one pts unit. rate: frames a second, on average."""

    time_base: Fraction
    rate: Fraction


class Source(ABC):
    """Where frames come from; iterated once, and closed when its with statement is left.

    name: as the user named it. inputs: the files it reads, which no output may overwrite. length: number of frames,
    None if unknown. timing: of a video or camera, None for single images. audio: path, or URL as a str, of a file whose
    audio belongs to the frames, or None. live: frames not taken in time are dropped.
    dropped, reconnects, failed: frames dropped, times a camera came back, inputs left out because they could
    not be read; all count up while frames are taken.
    """

    name: str
    inputs: tuple[Path, ...] = ()
    length: int | None = None
    timing: VideoTiming | None = None
    audio: Path | str | None = None
    live: bool = False
    dropped: int = 0
    reconnects: int = 0
    failed: int = 0

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]: ...

    def end_turn(self) -> None:
        """The frame of a live source that was taken last needs the model no more; called by the pipeline."""

    def close(self) -> None:
        """Release what is open; ends a live source's iteration. A second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
