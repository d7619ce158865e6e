"""The model that all cameras share, and a new one in its place without a restart."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from pumpseg.errors import ModelFileError, PumpsegError, first_line
from pumpseg.instances import Instances
from pumpseg.segmenter import Segmenter
from pumpseg.timings import Timings
from pumpseg.video.sources.frame_source import Frame

log = logging.getLogger("pumpseg")

_BLANK = np.zeros((480, 640, 3), np.uint8)


class SharedModel:
    """A segmenter that any number of threads use, and that another takes the place of between two frames.

    open_segmenter: opens the model file. A frame is segmented by one model from beginning to end. The one before is
    released when the last frame is through with it.

    Attributes: `segmenter`, the one in use; `swaps`, how many have been taken; `refused`, how many have not;
    `problem`, why the last one was not taken, None if it was.

    Raises what `Segmenter` raises.
    """

    def __init__(self, open_segmenter: Callable[[], Segmenter]) -> None:
        self._open = open_segmenter
        self.segmenter = open_segmenter()
        self.swaps = self.refused = 0
        self.problem: str | None = None
        self._file = _fingerprint(self.segmenter.path)
        self._swapping = threading.Lock()
        self._last_frame: NDArray[np.uint8] = _BLANK
        self._last_end = perf_counter()
        self._swapped = False

    def infer(self, frame: Frame) -> tuple[Instances, Timings]:
        """The instances of a frame, by the model that is in use when it begins."""
        segmenter = self.segmenter
        if self._swapped:
            self._swapped = False
            log.info("the model %s sees frames, after a gap of %.1f ms", segmenter.path, self.gap_ms())
        inferred = segmenter.infer(frame)
        self._last_frame, self._last_end = frame.image, perf_counter()
        return inferred

    @property
    def description(self) -> str:
        """The model in use, in one line."""
        model = self.segmenter
        return f"{model.path.name}, {model.info.precision}, on {model.provider}: {', '.join(model.class_names)}"

    def gap_ms(self) -> float:
        """Milliseconds since the last frame was done."""
        return 1000 * (perf_counter() - self._last_end)

    def changed(self) -> bool:
        """Whether the file is another one than at the last look, and complete as far as one can tell.

        A file that changes between two looks is still being written.
        """
        seen = _fingerprint(self.segmenter.path)
        changing, self._seen = seen != getattr(self, "_seen", self._file), seen
        return seen is not None and seen != self._file and not changing

    def reload(self) -> bool:
        """Open the file again, check it on a frame, and take it for all frames from now on.

        A file that cannot be used is logged, and the model stays. Returns whether the new one was taken.
        """
        with self._swapping:
            self._file = _fingerprint(self.segmenter.path)
            start = perf_counter()
            try:
                segmenter = self._open()
                check_successor(segmenter, self.segmenter.class_names, self._last_frame)
            except PumpsegError as error:
                self.refused, self.problem = self.refused + 1, first_line(error)
                log.error("the new model is not taken, the one before stays: %s", self.problem)
                return False
            except Exception as error:  # of the libraries that run the graph
                self.refused, self.problem = self.refused + 1, first_line(error)
                log.error("the new model fails on a frame, the one before stays: %s", self.problem)
                return False
            log.info("a new model, opened and checked in %.1f s: %r", perf_counter() - start, segmenter)
            self.segmenter, self.swaps, self.problem, self._swapped = segmenter, self.swaps + 1, None, True
            return True


def check_successor(segmenter: Segmenter, class_names: Sequence[str], frame: NDArray[np.uint8]) -> None:
    """Raise ModelFileError unless a model has all classes of the one before, in any order, and runs on a frame.

    frame: uint8 BGR (H, W, 3). It also prepares the session, whose first run is slow.
    """
    missing = [name for name in class_names if name not in segmenter.class_names]
    if missing:
        raise ModelFileError(
            f"{segmenter.path} has no class {', '.join(missing)}, which the model in use has; restart to change classes"
        )
    segmenter.timed(frame)


def _fingerprint(path: Path) -> tuple[int, int, int] | None:
    """What changes with a file; None if it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
