"""Processes that compute for this one: they leave Ctrl-C to it and end when it does."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait
from typing import Any

import cv2

from pumpseg.errors import PumpsegError

_LOOK_SECONDS = 2.0


class WorkerPool(ProcessPoolExecutor):
    """Processes that each call `initializer(*arguments)` first and use one OpenCV thread. To be shut down.

    A worker that is killed breaks the pool, also while it sends a result: of the half of a message that it leaves,
    ProcessPoolExecutor itself awaits the rest for ever.
    Raises PumpsegError where the system has no shared memory for them.
    """

    def __init__(self, processes: int, initializer: Callable[..., None], *arguments: Any) -> None:
        # Forking is not safe once TensorFlow or OpenCV have started threads.
        context = multiprocessing.get_context("spawn")
        try:
            super().__init__(processes, context, _start, (initializer, arguments))
        except OSError as error:
            raise PumpsegError(
                f"worker processes cannot share memory ({error.strerror}): can /dev/shm be written?"
            ) from None
        threading.Thread(target=self._break_after_a_kill, name="pumpseg-workers", daemon=True).start()

    def _break_after_a_kill(self) -> None:
        killed_before = False
        while (processes := self._processes) is not None and (results := self._result_queue) is not None:
            started = list(processes.values())
            ended = wait([process.sentinel for process in started], timeout=0)
            killed = any(process.sentinel in ended and process.exitcode for process in started)
            if killed and killed_before:
                # The pool awaits the rest of a message; that ends when nobody can write any more.
                for process in started:
                    process.kill()
                results._writer.close()  # type: ignore[attr-defined]  # of what typeshed does not describe
                return
            killed_before = killed
            time.sleep(_LOOK_SECONDS)


def _start(initializer: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    cv2.setNumThreads(1)
    # The parent handles Ctrl-C and ends its workers; one that was killed cannot, hence the thread.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    initializer(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
