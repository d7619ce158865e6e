"""The page of a watch: all cameras as tiles, today's counts, the last events, and a button for a new model.

One WebSocket carries everything: every second what the cameras are and have counted, as JSON; pictures as JPEG behind
one byte, the camera's number. A browser is sent a tile's next picture only when it has shown the one before, so that
no queue grows; nothing is drawn or encoded while nobody watches.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from time import monotonic
from typing import Any, Protocol

from pumpseg.video.result import Result
from pumpseg.video.viewers.live_page import encode_jpeg
from pumpseg.video.viewers.page_access import Access, PageAddress
from pumpseg.video.viewers.page_server import Answer, PageServer
from pumpseg.watch.camera_events import Today
from pumpseg.watch.event import Event
from pumpseg.watch.figures import Meter
from pumpseg.watch.recent_events import RecentEvents

log = logging.getLogger("pumpseg")

STATE_SECONDS = 1.0
TILE_SECONDS = 0.25
"""Between two pictures of a tile; a camera that is opened in large is shown as fast as the browser can."""
_POLL_SECONDS = 0.05
_MAX_UNSHOWN = 2
_EVENTS = 30


@dataclass(frozen=True)
class PageCamera:
    """A camera on the page."""

    name: str
    meter: Meter
    today: Callable[[], Today]


class PageModel(Protocol):
    """What the page says about the model."""

    swaps: int
    problem: str | None

    @property
    def description(self) -> str: ...


class WatchPage:
    """Serves the page until it is closed. token: must be in its address.

    reload: asks for the model file to be opened again. mark_wrong: called with the id of an event that a user marks as
    a false alarm; None for no such button.

    Attributes: `url` (with the token).

    Raises PumpsegError if websockets is not installed or the address cannot be served on.
    """

    def __init__(
        self,
        address: PageAddress,
        token: str,
        cameras: Sequence[PageCamera],
        recent: RecentEvents,
        model: PageModel,
        reload: Callable[[], None],
        mark_wrong: Callable[[str], None] | None = None,
    ) -> None:
        self._cameras, self._recent, self._model = tuple(cameras), recent, model
        self._reload, self._mark_wrong = reload, mark_wrong
        self._numbers = {camera.name: number for number, camera in enumerate(cameras)}
        self._newest: list[_Picture | None] = [None] * len(cameras)
        self._wrong: set[str] = set()
        self._viewers = 0
        self._ended = asyncio.Event()
        self._html = Answer(files(__package__).joinpath("page.html").read_bytes())
        self._server = PageServer(address, Access.to(address, token), self._answer, self._talk, self._ended.set)
        self.url = self._server.url

    @property
    def viewers(self) -> int:
        """Browsers that watch now."""
        return self._viewers

    def show(self, camera: str, result: Result) -> None:
        """Make a result the one that browsers get next of this camera. Costs nothing while nobody watches."""
        self._newest[self._numbers[camera]] = _Picture(result)

    def close(self) -> None:
        self._server.close()

    def _answer(self, path: str, _query: str) -> Answer | None:
        if path == "/":
            return self._html
        if path.startswith("/event/") and path.endswith(".jpg"):
            event = self._recent.find(path.removeprefix("/event/").removesuffix(".jpg"))
            if event is not None and event.snapshot is not None:
                return Answer(event.snapshot, "image/jpeg", headers={"Cache-Control": "private, max-age=86400"})
        return None

    async def _talk(self, browser: Any) -> None:
        viewer = _Viewer([None] * len(self._cameras), [-TILE_SECONDS] * len(self._cameras))
        listening = asyncio.create_task(self._listen(browser, viewer))
        self._viewers += 1
        try:
            stated = -STATE_SECONDS
            while not self._ended.is_set() and not listening.done():
                if monotonic() - stated >= STATE_SECONDS:
                    stated = monotonic()
                    await browser.send(json.dumps(self.state()))
                await self._send_pictures(browser, viewer)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._ended.wait(), _POLL_SECONDS)
            if listening.done() and not listening.cancelled() and (error := listening.exception()) is not None:
                raise error
        finally:
            self._viewers -= 1
            listening.cancel()

    async def _send_pictures(self, browser: Any, viewer: _Viewer) -> None:
        for number, picture in enumerate(self._newest):
            focused = viewer.focus == number
            if picture is None or picture is viewer.sent[number] or viewer.unshown[number] >= _MAX_UNSHOWN:
                continue
            if (viewer.focus is not None and not focused) or (
                not focused and monotonic() - viewer.sent_at[number] < TILE_SECONDS
            ):
                continue
            jpeg = await picture.encoded()
            viewer.sent[number], viewer.sent_at[number] = picture, monotonic()
            viewer.unshown[number] += 1
            await browser.send(bytes([number]) + jpeg)

    async def _listen(self, browser: Any, viewer: _Viewer) -> None:
        async for message in browser:
            try:
                request = json.loads(message)
                if "shown" in request:
                    viewer.unshown[request["shown"]] = max(0, viewer.unshown[request["shown"]] - 1)
                if "focus" in request:
                    viewer.focus = None if request["focus"] is None else self._numbers[request["focus"]]
                if "reload" in request:
                    self._reload()
                if "wrong" in request:
                    await self._note_wrong(request["wrong"])
            except (ValueError, TypeError, KeyError, IndexError):
                log.warning("the page sent what it does not send: %.80r", message)

    async def _note_wrong(self, event_id: str) -> None:
        if self._mark_wrong is not None and self._recent.find(event_id) is not None and event_id not in self._wrong:
            self._wrong.add(event_id)
            await asyncio.to_thread(self._mark_wrong, event_id)

    def state(self) -> dict[str, Any]:
        """What the page shows besides pictures, as plain values for JSON."""
        return {
            "cameras": [_camera_state(camera) for camera in self._cameras],
            "events": [self._event_state(event) for event in self._recent.newest()[:_EVENTS]],
            "model": {
                "description": self._model.description,
                "swaps": self._model.swaps,
                "problem": self._model.problem,
            },
            "can_mark": self._mark_wrong is not None,
        }

    def _event_state(self, event: Event) -> dict[str, Any]:
        return {
            "id": event.id,
            "time": event.time.timestamp(),
            "camera": event.camera,
            "rule": event.rule,
            "values": dict(event.values),
            "snapshot": event.snapshot is not None,
            "wrong": event.id in self._wrong,
        }


def _camera_state(camera: PageCamera) -> dict[str, Any]:
    figures, today = camera.meter.figures(), camera.today()
    counts = today.counts
    zones = {} if counts is None else counts.zones
    lines = {} if counts is None else counts.lines
    return {
        "name": camera.name,
        "state": figures.state,
        "reason": figures.reason,
        "fps": round(figures.fps, 1),
        "latency": None if not figures.latency else round(1000 * figures.latency[0.5]),
        "instances": dict(figures.instances),
        "objects": today.objects,
        "events": dict(today.events),
        "zones": {
            name: {
                "count": zone.count,
                "occupancy": round(zone.occupancy, 4),
                "entered": sum(zone.entered.values()),
                "left": sum(zone.left.values()),
            }
            for name, zone in zones.items()
        },
        "lines": {
            name: {"in": sum(line.crossed_in.values()), "out": sum(line.crossed_out.values())}
            for name, line in lines.items()
        },
    }


@dataclass
class _Viewer:
    """A browser: the last picture of every camera that it was sent, when, and how many it has not shown yet."""

    sent: list[_Picture | None]
    sent_at: list[float]
    focus: int | None = None
    unshown: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.unshown = [0] * len(self.sent)


class _Picture:
    """A result that is encoded when the first browser asks for it, once for all of them."""

    def __init__(self, result: Result) -> None:
        self._result = result
        self._encoding: asyncio.Task[bytes] | None = None

    async def encoded(self) -> bytes:
        if self._encoding is None:
            self._encoding = asyncio.create_task(asyncio.to_thread(encode_jpeg, self._result))
        # The others still need it when the browser that asked first is gone.
        return await asyncio.shield(self._encoding)
