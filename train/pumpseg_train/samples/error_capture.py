"""Errors while a batch is made, told as they were."""

import contextlib
from collections.abc import Iterator

import keras
import numpy as np


class TellingBatches(keras.utils.PyDataset):
    """Batches, made by `batch`, whose first error can be raised again: backends wrap it into errors of their own."""

    _error: Exception | None = None

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """One batch of an epoch."""
        raise NotImplementedError

    def __getitem__(self, step: int) -> tuple[dict[str, np.ndarray]]:
        try:
            return (self.batch(step),)
        except Exception as error:
            self._error = self._error or error
            raise

    @contextlib.contextmanager
    def original_error(self) -> Iterator[None]:
        """Raises what went wrong with a batch inside this context as it was."""
        try:
            yield
        except Exception:
            if self._error is not None:
                raise self._error from None
            raise
