"""The state that a run is resumed from: weights, optimizer and moving averages, in `epoch0007.weights.h5`."""

import re
from pathlib import Path
from typing import Any

import keras

from pumpseg.errors import first_line
from pumpseg_train.model.hdf5_file import check_hdf5_file
from pumpseg_train.model.hdf5_writer import write_hdf5_file
from pumpseg_train.progress import Progress
from pumpseg_train.training.run import RunError

_NAME = re.compile(r"epoch(\d{4,9})\.weights\.h5")
_KEPT = 2


class Checkpoint(keras.callbacks.Callback):
    """Saves the state of a model that is being trained after each epoch, and keeps the last two in `folder`."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        variables = [*self.model.variables, *self.model.optimizer.variables]
        path = self._folder / f"epoch{epoch + 1:04d}.weights.h5"
        write_hdf5_file(path, self.model.save_weights, variables)
        remove_old(self._folder, _KEPT)


def restore(trainer: keras.Model, folder: Path, progress: Progress) -> int:
    """Loads the newest checkpoint that can be read into a model whose optimizer is built; returns its epoch, or 0.

    Raises:
        RunError: there are checkpoints, but none can be read.
    """
    found = _checkpoints(folder)
    for epoch, path in reversed(found):
        try:
            check_hdf5_file(path)
            trainer.load_weights(path)
        except Exception as error:  # Keras and HDF5 raise nearly anything for a damaged file
            progress.note(f"{path} is damaged and skipped: {first_line(error)}")
        else:
            return epoch
    if found:
        raise RunError(f"no checkpoint in {folder} can be read: remove that folder to train from the first epoch again")
    return 0


def remove_old(folder: Path, kept: int) -> None:
    """Removes all checkpoints but the newest `kept`."""
    for _, path in _checkpoints(folder)[:-kept]:
        path.unlink(missing_ok=True)


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Epochs and files, the oldest first."""
    matches = ((_NAME.fullmatch(path.name), path) for path in folder.glob("epoch*.weights.h5"))
    return sorted((int(match[1]), path) for match, path in matches if match)
