"""Processes that compute for this one: they leave Ctrl-C to it and end when it does."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import cv2

from pumpseg.inference.cpu import physical_cores


def worker_pool(processes: int, initializer: Callable[..., None], *arguments: Any) -> ProcessPoolExecutor:
    """A pool whose processes each call `initializer(*arguments)` first and use one OpenCV thread."""
    # Forking is not safe once TensorFlow or OpenCV have started threads.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(processes, context, _start, (initializer, arguments))


def usable_cores() -> int:
    """How many processes can compute at the same time, at least 1."""
    return physical_cores() or os.cpu_count() or 1


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
