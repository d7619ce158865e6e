"""A page instead of a window: the newest frame with its instances and figures, in any browser.

The page is one HTML file, which takes pictures and figures through a WebSocket. A viewer is sent a picture only once
it has shown the one before the last, and then it is the newest: no queue grows anywhere, however slow it reads.
BatchSampler and encoding happen in the server's own threads, once a frame, and only when a viewer is ready for it.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import logging
import os
import secrets
import socket
import threading
from collections import Counter, deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from http import HTTPStatus
from importlib.resources import files
from time import perf_counter
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import cv2

from pumpseg.draw import draw
from pumpseg.errors import PumpsegError, require
from pumpseg.instances import UNCONFIRMED
from pumpseg.video.pipeline import View

THIS_MACHINE = "127.0.0.1"
MAX_PIXELS = (1280, 960)
STILL_SECONDS = 3.0
UNSHOWN_PICTURES = 2

_JPEG_QUALITY = 80
_FIGURES_SECONDS = 2.0
_CLOSE_SECONDS = 1
_POLL_SECONDS = 0.1
_EVERYWHERE = ("0.0.0.0", "::")

# Nothing of the page comes from elsewhere, nothing of it is kept, and no other page may hold or read it.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


log = logging.getLogger("pumpseg")


@dataclass(frozen=True)
class PageAddress:
    """Where a page is served. host: a name or IP address. port: 0 for any that is free."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> PageAddress:
        """From [HOST:]PORT, an IPv6 address in brackets. Raises ValueError."""
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if (
            not (port.isascii() and port.isdecimal() and int(port) < 2**16)
            or (colon and not host.strip("[]"))
            or (":" in host and not bracketed)
        ):
            raise ValueError(f"{text!r} is no [HOST:]PORT, such as 8000, 0.0.0.0:8000 or [::]:8000")
        return cls(host.strip("[]").lower() or THIS_MACHINE, int(port))

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host == "localhost" or _is_loopback(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Access:
    """Who may see a page.

    A browser that was led here by another site's name (DNS rebinding) still sends that name, so only these may be
    asked for: `names`, IP addresses of this machine's own (`local`), or any IP address where others may come.
    token: what every request must bring in its query, or None.
    """

    names: frozenset[str]
    local: bool
    token: str | None = None

    @classmethod
    def to(cls, address: PageAddress, token: str | None = None) -> Access:
        """To a page at an address. Without a token one is made up for a page that other machines can reach."""
        if address.is_local:
            return cls(frozenset({"localhost"}), local=True, token=token)
        here = socket.gethostname().lower()
        names = frozenset({"localhost", address.host, here, f"{here}.local"})
        return cls(names, local=False, token=token or secrets.token_urlsafe(16))

    def refusal(self, headers: Any, query: str) -> str | None:
        """Why a request is turned away, or None. headers: of the request, with a method `get_all`."""
        hosts, origins = headers.get_all("Host"), headers.get_all("Origin")
        if len(hosts) != 1 or not self._goes_by(_host_name(f"//{hosts[0]}")):
            return "this page does not go by that name: open the address that pumpseg-video printed"
        if any(origin.partition("://")[2].lower() != hosts[0].lower() for origin in origins):
            return "other sites may not use this page"
        given = parse_qs(query).get("token", [])
        if self.token and not (len(given) == 1 and hmac.compare_digest(given[0].encode(), self.token.encode())):
            return "the token is missing or wrong: open the whole address that pumpseg-video printed"
        return None

    def _goes_by(self, host: str) -> bool:
        return host in self.names or (_is_loopback(host) if self.local else _is_ip(host))


class LivePage:
    """Serves the page while frames are shown to it; a `Window` for any number of browsers.

    stop: ends the wait for a frame's time. token: see `Access.to`.

    Attributes: `url` (of the page, with the token).

    Raises PumpsegError if websockets is not installed or the address cannot be served on.
    """

    draws = False

    def __init__(self, address: PageAddress, stop: threading.Event, token: str | None = None) -> None:
        self._websockets = require("websockets", extra="serve")
        self._access = Access.to(address, token)
        self._stop = stop
        self._html = files(__package__).joinpath("live_page.html").read_text(encoding="utf-8")
        self._watched = threading.Event()
        self._frames = _Frames()
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        started: Future[int] = Future()
        self._thread = threading.Thread(
            target=lambda: self._loop.run_until_complete(self._serve(address, started)),
            name="pumpseg-page",
            daemon=True,
        )
        self._thread.start()
        try:
            port = started.result()
        except (OSError, UnicodeError) as error:
            self._thread.join()
            self._loop.close()
            # asyncio's own text repeats the address.
            known = isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno
            reason = os.strerror(known) if known else getattr(error, "strerror", None) or str(error)
            raise PumpsegError(f"cannot serve the page on {address}: {reason}") from None
        host = _address_here() if address.host in _EVERYWHERE else address.host
        token = self._access.token
        query = f"?token={quote(token, safe='')}" if token else ""
        self.url = f"http://{PageAddress(host, port)}/{query}"

    def wait_for_viewer(self) -> None:
        """Return when the first browser watches, or at `stop`."""
        while not self._watched.wait(_POLL_SECONDS) and not self._stop.is_set():
            pass

    def show(self, view: View, due: float | None = None) -> bool:
        """Make a frame the one that viewers get next; always True.

        due: return then, on the perf_counter clock, or after STILL_SECONDS; at once without it.
        """
        now = perf_counter()
        self._loop.call_soon_threadsafe(self._frames.add, view, now)
        if due is not None:
            self._stop.wait(max(0.0, min(due - now, STILL_SECONDS)))
        return True

    def close(self) -> None:
        """Tell viewers that it is over; they are gone when this returns. Once more does nothing."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self, address: PageAddress, started: Future[int]) -> None:
        # Browsers that break off their requests are no news.
        silent = logging.Logger("pumpseg.page", logging.CRITICAL + 1)
        try:
            server = await self._websockets.serve(
                self._send_frames,
                address.host,
                address.port,
                process_request=self._answer,
                compression=None,  # pictures are compressed already
                max_size=1024,
                close_timeout=_CLOSE_SECONDS,
                server_header=None,
                logger=silent,
            )
        except BaseException as error:
            started.set_exception(error)
            return
        async with server:
            started.set_result(next(iter(server.sockets)).getsockname()[1])
            await self._closing.wait()
            self._frames.end()

    def _answer(self, connection: Any, request: Any) -> Any:
        """The answer to a request that is not the WebSocket's: the page, or why there is none."""
        path, _, query = request.path.partition("?")
        refusal = self._access.refusal(request.headers, query)
        if refusal is not None:
            return connection.respond(HTTPStatus.FORBIDDEN, f"{refusal}\n")
        if path == "/live":
            return None
        if path != "/":
            return connection.respond(HTTPStatus.NOT_FOUND, "The page is at /\n")
        response = connection.respond(HTTPStatus.OK, self._html)
        del response.headers["Content-Type"]
        for name, value in {"Content-Type": "text/html; charset=utf-8", **_HEADERS}.items():
            response.headers[name] = value
        return response

    async def _send_frames(self, viewer: Any) -> None:
        shown, under_way = 0, 0
        self._frames.viewers += 1
        self._watched.set()
        try:
            while (frame := await self._frames.after(shown)) is not None:
                figures, jpeg = await frame.encoded()
                await viewer.send(figures)
                await viewer.send(jpeg)
                shown, under_way = frame.number, under_way + 1
                while under_way >= UNSHOWN_PICTURES:
                    await viewer.recv()
                    under_way -= 1
        except self._websockets.ConnectionClosed:
            pass
        except Exception:
            log.exception("the page cannot show a frame")
        finally:
            self._frames.viewers -= 1


class _Frames:
    """The newest frame, and the figures of those of the last seconds. Belongs to the server's event loop."""

    def __init__(self) -> None:
        self.viewers = 0
        self._recent: deque[tuple[float, Mapping[str, float]]] = deque()
        self._ids: set[int] = set()
        self._newest: _LiveFrame | None = None
        self._number = 0
        self._ended = False
        self._changed = asyncio.Event()

    def add(self, view: View, now: float) -> None:
        self._recent.append((now, view.spent))
        while len(self._recent) > 2 and self._recent[0][0] < now - _FIGURES_SECONDS:
            self._recent.popleft()
        if view.instances.track_ids is not None:
            ids = view.instances.track_ids
            self._ids.update(ids[ids != UNCONFIRMED].tolist())
        self._number += 1
        self._newest = _LiveFrame(self._number, view, self)
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

    def figures(self, view: View) -> dict[str, Any]:
        """What the page tells beside a frame, for JSON: stages and latency in milliseconds, fps of the last seconds.

        distinct: how many ids a tracker has given so far, None without one.
        """
        spent = [stages for _, stages in self._recent]
        seconds = self._recent[-1][0] - self._recent[0][0]
        return {
            "source": view.frame.source,
            "frame": view.frame.index,
            "time": round(view.frame.time, 3),
            "counts": Counter(view.instances.labels),
            "distinct": None if view.instances.track_ids is None else len(self._ids),
            "fps": round((len(spent) - 1) / seconds, 2) if seconds > 0 else None,
            "stages": {name: round(1000 * sum(s[name] for s in spent) / len(spent), 2) for name in view.spent},
            "latency": None if view.latency is None else round(1000 * view.latency, 1),
            "dropped": view.dropped,
            "reconnects": view.reconnects,
            "viewers": self.viewers,
        }

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class _LiveFrame:
    """A frame that becomes a JPEG when the first viewer asks for it, and then stays one for the others."""

    def __init__(self, number: int, view: View, frames: _Frames) -> None:
        self.number = number
        self._view = view
        self._frames = frames
        self._encoding: asyncio.Task[tuple[str, bytes]] | None = None

    async def encoded(self) -> tuple[str, bytes]:
        """Its figures as JSON, and the picture."""
        if self._encoding is None:
            self._encoding = asyncio.create_task(self._encode())
        # The others still want it when the viewer who asked first is gone.
        return await asyncio.shield(self._encoding)

    async def _encode(self) -> tuple[str, bytes]:
        figures = json.dumps(self._frames.figures(self._view))
        return figures, await asyncio.to_thread(encode_jpeg, self._view)


def encode_jpeg(view: View) -> bytes:
    """A frame with its instances as a JPEG of at most MAX_PIXELS (width, height)."""
    image = draw(view.frame.image, view.instances) if view.drawn is None else view.drawn
    height, width = image.shape[:2]
    scale = min(MAX_PIXELS[0] / width, MAX_PIXELS[1] / height)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()


def _host_name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    return _is_ip(host) and ipaddress.ip_address(host).is_loopback


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _address_here() -> str:
    """The address by which the local network knows this machine; nothing is sent to find it out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # A documentation address (RFC 5737): only the route to it is looked up.
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return THIS_MACHINE
