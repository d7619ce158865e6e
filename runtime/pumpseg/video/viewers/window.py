"""A window for frames, where there is a screen."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from time import perf_counter

from pumpseg.opencv import cv2
from pumpseg.video.result import Result, Viewer

_QUIT_KEYS = (ord("q"), 27)
_WAIT_SECONDS = 0.05
_PROBE = "import cv2; cv2.namedWindow('pumpseg'); cv2.waitKey(1); cv2.destroyAllWindows()"


def screen_problem(timeout: float = 15) -> str | None:
    """Why no window can be opened here, or None.

    OpenCV aborts the whole process when it cannot reach the display, so a separate process tries first.
    """
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no screen (neither DISPLAY nor WAYLAND_DISPLAY is set)"
    try:
        probe = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return f"the screen did not answer within {timeout:g} s"
    except OSError as error:
        return f"the screen could not be tested ({error})"
    if probe.returncode:
        return "OpenCV cannot open a window here"
    return None


class OpenCvWindow(Viewer):
    """A resizable window; q, Esc or closing it ends the show, and so does `stop`. Belongs to the main thread."""

    def __init__(self, title: str, stop: threading.Event) -> None:
        self._title = title
        self._stop = stop
        cv2.namedWindow(title, cv2.WINDOW_NORMAL)
        self._sized = False

    def show(self, result: Result, show_at: float | None = None) -> bool:
        """Show an annotated frame until `show_at`, math.inf until a key is pressed; False once the user quits."""
        image = result.annotated
        if not self._sized:
            scale = min(1.0, 1280 / image.shape[1], 800 / image.shape[0])
            cv2.resizeWindow(self._title, round(image.shape[1] * scale), round(image.shape[0] * scale))
            self._sized = True
        cv2.imshow(self._title, image)
        while True:
            left = 0.0 if show_at is None else show_at - perf_counter()
            key = cv2.waitKey(max(1, round(1000 * min(left, _WAIT_SECONDS))))
            if key & 0xFF in _QUIT_KEYS or cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1:
                return False
            if self._stop.is_set() or left <= _WAIT_SECONDS or (show_at == math.inf and key >= 0):
                return True

    def close(self) -> None:
        cv2.destroyWindow(self._title)
