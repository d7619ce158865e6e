"""Whose frame the model sees next: first come, first served, so that no camera waits for another one twice."""

from __future__ import annotations

import threading
from collections import deque


class Turns:
    """A number of turns that threads take and give back, in the order in which they asked.

    A semaphore of the standard library lets whoever asks at the right moment in before those that wait.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[threading.Lock] = deque()
        self._lock = threading.Lock()

    def take(self) -> None:
        """Wait for a turn."""
        with self._lock:
            if self._free:
                self._free -= 1
                return
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        mine.acquire()

    def give_back(self) -> None:
        """End a turn: it passes on to whoever has waited longest."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1
