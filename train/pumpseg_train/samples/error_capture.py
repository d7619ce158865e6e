"""Batches that keep the first error of their own, which backends wrap into errors of theirs."""

import contextlib
from collections.abc import Iterator

import keras
import numpy as np


class ErrorCapturingBatches(keras.utils.PyDataset):
    """A Keras data set whose batches `batch` makes."""

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
        """Raises the first error of a batch in this context unchanged."""
        try:
            yield
        except Exception:
            if self._error is not None:
                raise self._error from None
            raise
