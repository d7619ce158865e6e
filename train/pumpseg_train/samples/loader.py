"""Batches for training, each a pure function of the seed and its number, so that a run can be resumed."""

import multiprocessing
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType

import numpy as np

from pumpseg.errors import PumpsegError
from pumpseg.inference.cpu import physical_cores
from pumpseg_train.samples.batches import BatchSampler, batch_of_process, start_process
from pumpseg_train.samples.error_capture import TellingBatches

_FEWEST_THREADS = 2
_BATCHES_MORE_THAN_WORKERS = 4


class Batches(TellingBatches):
    """The `steps` batches of the epoch number `epoch`, augmented samples as `losses.Trainer` takes them.

    They are drawn ahead by `processes` of their own, or with none by a thread for each core: nothing is copied then,
    but Python lets threads run side by side only in part, no faster than two processes. A context manager, which
    ends them. `waited` counts the seconds for which a batch was asked for before it was ready.
    """

    def __init__(self, drawing: BatchSampler, *, steps: int, processes: int = 0) -> None:
        super().__init__()
        self._steps = steps
        if processes:
            self._executor: Executor = ProcessPoolExecutor(
                processes, multiprocessing.get_context("spawn"), start_process, (drawing,)
            )
            self._draw = batch_of_process
        else:
            threads = max(_FEWEST_THREADS, physical_cores())
            self._executor = ThreadPoolExecutor(threads, thread_name_prefix="samples")
            self._draw = drawing.batch
        self._most_ahead = (processes or threads) + _BATCHES_MORE_THAN_WORKERS
        self._ahead: dict[int, Future[dict[str, np.ndarray]]] = {}
        self._epoch = 0
        self.waited = 0.0

    def __enter__(self) -> "Batches":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._executor.shutdown(cancel_futures=True)

    @property
    def epoch(self) -> int:
        return self._epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        if epoch != self._epoch:
            self._epoch = epoch
            for future in self._ahead.values():
                future.cancel()
            self._ahead.clear()

    def __len__(self) -> int:
        return self._steps

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """Raises PumpsegError when a process that draws samples was killed."""
        asked = time.perf_counter()
        try:
            for number in range(step, min(step + self._most_ahead, self._steps)):
                if number not in self._ahead:
                    self._ahead[number] = self._executor.submit(self._draw, self._epoch * self._steps + number)
            batch = self._ahead.pop(step).result()
        except BrokenProcessPool:
            raise PumpsegError(
                "a process that draws samples was killed, or there was no memory for it: give fewer --workers"
            ) from None
        self.waited += time.perf_counter() - asked
        return batch
