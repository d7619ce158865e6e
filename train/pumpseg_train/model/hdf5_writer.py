"""Writes HDF5 files that are whole or not there."""

import math
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import keras

from pumpseg.atomic_file import complete_file

_PER_VARIABLE = 4096  # bytes that HDF5 takes for the names and places of a variable, at most


def write_hdf5_file(target: Path, save: Callable[[Path], object], variables: Iterable[keras.Variable]) -> None:
    """Lets Keras' `save` write its `variables` to a file that gets its name when complete.

    Raises SinkError.
    """
    size = sum(math.prod(variable.shape) * 4 + _PER_VARIABLE for variable in variables)
    with complete_file(target) as partial, tempfile.TemporaryDirectory(dir=partial.parent) as folder:
        # HDF5 prints a traceback of its own when a disk is full, so that is found out before.
        partial.write_bytes(bytes(size))
        os.truncate(partial, 0)
        written = Path(folder) / target.name  # HDF5 locks what it writes, and `partial` has a lock
        save(written)
        written.replace(partial)
