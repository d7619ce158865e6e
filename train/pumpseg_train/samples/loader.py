"""Batches for training, each a pure function of the seed and its number, so that a run can be resumed."""

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType

import cv2
import numpy as np

from pumpseg.errors import PumpsegError
from pumpseg.inference.threads import usable_cores
from pumpseg_train.samples.batches import BatchSampler, batch_of_process, set_sampler
from pumpseg_train.samples.error_capture import ErrorCapturingBatches
from pumpseg_train.worker_process import WorkerPool

_MIN_THREADS = 2
_BATCHES_MORE_THAN_WORKERS = 4


@contextlib.contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Limits OpenCV to one thread: samples are drawn in several threads already, next to the training step."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


class Batches(ErrorCapturingBatches):
    """The `steps` batches of the epoch number `epoch`, augmented samples as `losses.Trainer` takes them.

    `processes` workers draw them ahead; with 0, one thread per core does. Threads copy nothing, but because of
    Python's interpreter lock they are no faster than two processes. Use as a context manager, which ends the workers.
    `wait_seconds` sums the time spent waiting for a batch.
    """

    def __init__(self, sampler: BatchSampler, *, steps: int, processes: int = 0) -> None:
        super().__init__()
        self._steps = steps
        if processes:
            self._executor: Executor = WorkerPool(processes, set_sampler, sampler)
            self._draw = batch_of_process
        else:
            threads = max(_MIN_THREADS, usable_cores())
            self._executor = ThreadPoolExecutor(threads, thread_name_prefix="samples")
            self._draw = sampler.batch
        self._max_ahead = (processes or threads) + _BATCHES_MORE_THAN_WORKERS
        self._ahead: dict[int, Future[dict[str, np.ndarray]]] = {}
        self._epoch = 0
        self.wait_seconds = 0.0

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
        """Raises PumpsegError when a worker process was killed."""
        asked = time.perf_counter()
        try:
            for number in range(step, min(step + self._max_ahead, self._steps)):
                if number not in self._ahead:
                    self._ahead[number] = self._executor.submit(self._draw, self._epoch * self._steps + number)
            batch = self._ahead.pop(step).result()
        except BrokenProcessPool:
            raise PumpsegError("a worker process was killed, or ran out of memory: use fewer --workers") from None
        self.wait_seconds += time.perf_counter() - asked
        return batch
