"""A page instead of a window: the newest frame with its instances and figures, in any browser.

The page is one HTML file, which gets pictures and figures through a WebSocket. A browser is sent a picture only once
it has shown the one before the last, and then it is sent the newest: no queue grows anywhere, however slow it reads.
Drawing and encoding happen in the server's own threads, once for each frame, and only when a browser is ready for it.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter, deque
from collections.abc import Mapping
from importlib.resources import files
from time import perf_counter
from typing import Any

from pumpseg.instances import UNCONFIRMED
from pumpseg.opencv import cv2
from pumpseg.video.result import Result, Viewer
from pumpseg.video.viewers.page_access import Access, PageAddress
from pumpseg.video.viewers.page_server import Answer, PageServer
from pumpseg.zones.counts import ZoneCounts

MAX_PIXELS = (1280, 960)
STILL_SECONDS = 3.0
UNSHOWN_PICTURES = 2

_JPEG_QUALITY = 80
_FIGURES_SECONDS = 2.0
_POLL_SECONDS = 0.1


class LivePage(Viewer):
    """Serves the page while results are shown to it, to any number of browsers.

    stop: ends the wait for a frame's time. token: see `Access.to`.

    Attributes: `url` (of the page, with the token).

    Raises PumpsegError if websockets is not installed or the address cannot be served on.
    """

    def __init__(self, address: PageAddress, stop: threading.Event, token: str | None = None) -> None:
        self._stop = stop
        self._page = Answer(files(__package__).joinpath("live_page.html").read_bytes())
        self._watched = threading.Event()
        self._frames = _Frames()
        self._server = PageServer(address, Access.to(address, token), self._answer, self._send_frames, self._frames.end)
        self.url = self._server.url

    def wait_for_browser(self) -> None:
        """Return when the first browser has connected, or at `stop`."""
        while not self._watched.wait(_POLL_SECONDS) and not self._stop.is_set():
            pass

    def show(self, result: Result, show_at: float | None = None) -> bool:
        """Make a result the one that browsers get next. Returns True at `show_at`, or STILL_SECONDS later."""
        now = perf_counter()
        self._server.loop.call_soon_threadsafe(self._frames.add, result, now)
        if show_at is not None:
            self._stop.wait(max(0.0, min(show_at - now, STILL_SECONDS)))
        return True

    def close(self) -> None:
        """Notify the browsers that the run has ended, and disconnect them."""
        self._server.close()

    def _answer(self, path: str, _query: str) -> Answer | None:
        return self._page if path == "/" else None

    async def _send_frames(self, viewer: Any) -> None:
        shown, unconfirmed = 0, 0
        self._frames.viewers += 1
        self._watched.set()
        try:
            while (frame := await self._frames.after(shown)) is not None:
                figures, jpeg = await frame.encoded()
                await viewer.send(figures)
                await viewer.send(jpeg)
                shown, unconfirmed = frame.number, unconfirmed + 1
                while unconfirmed >= UNSHOWN_PICTURES:
                    await viewer.recv()
                    unconfirmed -= 1
        finally:
            self._frames.viewers -= 1


class _Frames:
    """The newest frame, and the figures of the last seconds. Belongs to the server's event loop."""

    def __init__(self) -> None:
        self.viewers = 0
        self._recent: deque[tuple[float, Mapping[str, float]]] = deque()
        self._track_ids: set[int] = set()
        self._newest: _LiveFrame | None = None
        self._number = 0
        self._ended = False
        self._changed = asyncio.Event()

    def add(self, result: Result, now: float) -> None:
        self._recent.append((now, result.stage_seconds))
        while len(self._recent) > 2 and self._recent[0][0] < now - _FIGURES_SECONDS:
            self._recent.popleft()
        track_ids = result.instances.track_ids
        if track_ids is not None:
            self._track_ids.update(track_ids[track_ids != UNCONFIRMED].tolist())
        self._number += 1
        self._newest = _LiveFrame(self._number, result, self)
        self._wake()

    def end(self) -> None:
        self._ended = True
        self._wake()

    async def after(self, number: int) -> _LiveFrame | None:
        """The newest frame, once it is one after `number`; None at the end."""
        while not self._ended:
            if self._newest is not None and self._newest.number > number:
                return self._newest
            await self._changed.wait()
        return None

    def figures(self, result: Result) -> dict[str, Any]:
        """What the page shows next to a frame, for JSON: stages and latency in milliseconds, fps of the last seconds.

        distinct: track ids given so far, None without a tracker. zones, lines: see `ZoneCounts.to_json`.
        """
        recent = [stages for _, stages in self._recent]
        seconds = self._recent[-1][0] - self._recent[0][0]
        return {
            "source": result.source,
            "frame": result.index,
            "time": round(result.time, 3),
            "counts": Counter(result.instances.labels),
            "distinct": None if result.instances.track_ids is None else len(self._track_ids),
            "fps": round((len(recent) - 1) / seconds, 2) if seconds > 0 else None,
            "stages": {
                name: round(1000 * sum(stages[name] for stages in recent) / len(recent), 2)
                for name in result.stage_seconds
            },
            "latency": None if result.latency is None else round(1000 * result.latency, 1),
            "dropped": result.dropped,
            "reconnects": result.reconnects,
            "viewers": self.viewers,
            **(ZoneCounts((), {}, {}, False) if result.counts is None else result.counts).to_json(),
        }

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class _LiveFrame:
    """A frame that is encoded as a JPEG when the first browser asks for it, once for all of them."""

    def __init__(self, number: int, result: Result, frames: _Frames) -> None:
        self.number = number
        self._result = result
        self._frames = frames
        self._encoding: asyncio.Task[tuple[str, bytes]] | None = None

    async def encoded(self) -> tuple[str, bytes]:
        """Its figures as JSON, and the picture."""
        if self._encoding is None:
            self._encoding = asyncio.create_task(self._encode())
        # The others still need it when the browser that asked first is gone.
        return await asyncio.shield(self._encoding)

    async def _encode(self) -> tuple[str, bytes]:
        figures = json.dumps(self._frames.figures(self._result))
        return figures, await asyncio.to_thread(encode_jpeg, self._result)


def encode_jpeg(result: Result) -> bytes:
    """An annotated frame as a JPEG of at most MAX_PIXELS (width, height)."""
    image = result.annotated
    height, width = image.shape[:2]
    scale = min(MAX_PIXELS[0] / width, MAX_PIXELS[1] / height)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
