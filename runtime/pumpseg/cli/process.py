"""The process that a command runs in: its signals and its log lines."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from pumpseg.opencv import cv2

Handler = Callable[[int, FrameType | None], Any]


def stop_then_interrupt(stop: threading.Event) -> Handler:
    """A handler whose first signal sets `stop`, so that outputs are completed, and whose second interrupts at once."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    return handle


@contextlib.contextmanager
def handle_signals(handler: Handler) -> Iterator[None]:
    """Handle Ctrl-C, SIGTERM and a closing terminal with `handler`. Does nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    # nohup ignores SIGHUP on purpose.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


@contextlib.contextmanager
def log_lines(program: str) -> Iterator[None]:
    """Print what the package logs as plain lines on stderr, and nothing of OpenCV, whose failures arrive elsewhere."""
    logger = logging.getLogger("pumpseg")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"{program}: %(message)s"))
    level = logger.level
    opencv_level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        cv2.utils.logging.setLogLevel(opencv_level)
