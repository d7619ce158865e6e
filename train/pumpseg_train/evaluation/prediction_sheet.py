"""Sheets of pictures with predictions drawn in."""

from pathlib import Path

import cv2
import numpy as np

from pumpseg.atomic_file import complete_file
from pumpseg.drawing import draw
from pumpseg.errors import PumpsegError
from pumpseg.instances import Instances
from pumpseg_train.evaluation.metrics import Predict

_TILE = 320  # pixels: side of one picture on a sheet
_COLUMNS = 4


class PredictionSheet:
    """Wraps a `Predict` and keeps the first frames with their predictions drawn in."""

    def __init__(self, predict: Predict, *, limit: int = 12, threshold: float = 0.5) -> None:
        self._predict, self._limit, self._threshold = predict, limit, threshold
        self._tiles: list[np.ndarray] = []

    def __call__(self, frame: np.ndarray) -> Instances:
        instances = self._predict(frame)
        if len(self._tiles) < self._limit:
            self._tiles.append(tile(draw(frame, instances[instances.scores >= self._threshold])))
        return instances

    def save(self, path: Path) -> None:
        """Writes the frames seen so far as one sheet."""
        write_sheet(path, self._tiles)


def tile(frame: np.ndarray, side: int = _TILE) -> np.ndarray:
    """A frame uint8 (H, W, 3), fitted into a grey square of `side` pixels."""
    scale = side / max(frame.shape[:2])
    small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:side, :side]
    square = np.full((side, side, 3), 64, np.uint8)
    square[: small.shape[0], : small.shape[1]] = small
    return square


def write_sheet(path: Path, tiles: list[np.ndarray], columns: int = _COLUMNS) -> None:
    """Writes tiles of one size, uint8 BGR, as rows of one picture; the folder is made.

    Raises:
        PumpsegError: the file cannot be written.
    """
    blank = np.full_like(tiles[0], 64)
    tiles = tiles + [blank] * (-len(tiles) % columns)
    sheet = np.vstack([np.hstack(tiles[first : first + columns]) for first in range(0, len(tiles), columns)])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with complete_file(path) as partial:
            partial.write_bytes(cv2.imencode(path.suffix, sheet)[1].tobytes())
    except PumpsegError:
        raise
    except OSError as error:
        raise PumpsegError(f"cannot write {path}: {error.strerror}") from None
