"""A small server of pages: plain HTTP answers and one WebSocket, in a thread of its own.

One WebSocket library without dependencies serves both. Every request passes the access checks of `page_access.py`;
connections are capped, and silent ones cut.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from pumpseg.errors import PumpsegError, require
from pumpseg.video.viewers.page_access import THIS_MACHINE, Access, PageAddress, websocket_sources

WEBSOCKET = "/live"
REQUEST_SECONDS = 5

_CLOSE_SECONDS = 1
_MAX_CONNECTIONS = 64
_EVERYWHERE = ("0.0.0.0", "::")

# A page loads nothing from other sites, is not cached, and no other page may embed or read it.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src 'self' data:; connect-src {websocket}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

log = logging.getLogger("pumpseg")


@dataclass(frozen=True)
class Answer:
    """The answer to a request. content_type: of the body, with its character set. headers: more of them."""

    body: bytes
    content_type: str = "text/html; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def text(cls, text: str, status: HTTPStatus = HTTPStatus.OK) -> Answer:
        return cls(f"{text}\n".encode(), "text/plain; charset=utf-8", status)


class PageServer:
    """Serves until it is closed.

    answer: to a request for a path and a query that the access lets in; None for what is not there. Called in the
    server's thread, where it must not wait.
    talk: to a browser that opened a WebSocket at /live; None for none. ended: called in the server's event loop when
    the server closes, so that talks come to their end.

    Attributes: `url` (of the page at /, with the token); `loop`, the server's event loop.

    Raises PumpsegError if websockets is not installed or the address cannot be served on.
    """

    def __init__(
        self,
        address: PageAddress,
        access: Access,
        answer: Callable[[str, str], Answer | None],
        talk: Callable[[Any], Awaitable[None]] | None = None,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self._websockets = require("websockets", extra="serve")
        self._access, self._to_answer, self._talk, self._ended = access, answer, talk, ended
        self.loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        started: Future[int] = Future()
        self._thread = threading.Thread(
            target=lambda: self.loop.run_until_complete(self._serve(address, started)),
            name="pumpseg-page",
            daemon=True,
        )
        self._thread.start()
        try:
            port = started.result()
        except (OSError, UnicodeError) as error:
            self._thread.join()
            self.loop.close()
            # asyncio's own message repeats the address.
            known = isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno
            reason = os.strerror(known) if known else getattr(error, "strerror", None) or str(error)
            raise PumpsegError(f"cannot serve the page on {address}: {reason}") from None
        host = _address_here() if address.host in _EVERYWHERE else address.host
        query = f"?token={quote(access.token, safe='')}" if access.token else ""
        self.url = f"http://{PageAddress(host, port)}/{query}"

    def close(self) -> None:
        """Disconnect the browsers and end. Does nothing twice."""
        if self.loop.is_closed():
            return
        self.loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()
        self.loop.close()

    async def _serve(self, address: PageAddress, started: Future[int]) -> None:
        # Browsers that abort their requests are not worth a log line.
        silent = logging.Logger("pumpseg.page", logging.CRITICAL + 1)
        try:
            server = await self._websockets.serve(
                self._talk_to,
                address.host,
                address.port,
                process_request=self._answer,
                compression=None,  # pictures are compressed already
                max_size=1024,
                open_timeout=REQUEST_SECONDS,
                create_connection=_limited_connections(_MAX_CONNECTIONS),
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
            self._ended()

    def _answer(self, connection: Any, request: Any) -> Any:
        """The response to a request that is not the WebSocket's, or None to open it."""
        if getattr(request, "method", "GET") != "GET":  # websockets before 17 refuses others itself
            return connection.respond(HTTPStatus.METHOD_NOT_ALLOWED, "The page only answers GET\n")
        path, _, query = request.path.partition("?")
        refusal = self._access.refusal(request.headers, query)
        if refusal is not None:
            return connection.respond(HTTPStatus.FORBIDDEN, f"{refusal}\n")
        if path == WEBSOCKET and self._talk is not None:
            return None
        try:
            answer = self._to_answer(path, query) or Answer.text("The page is at /", HTTPStatus.NOT_FOUND)
        except Exception:
            log.exception("a request for %s failed", path)
            answer = Answer.text("This failed; the log says why", HTTPStatus.INTERNAL_SERVER_ERROR)
        response = connection.respond(answer.status, "")
        websocket = websocket_sources(request.headers["Host"])
        new = {name: value.format(websocket=websocket) for name, value in _HEADERS.items()}
        new |= {"Content-Type": answer.content_type, "Content-Length": str(len(answer.body)), **answer.headers}
        for name, value in new.items():
            if name in response.headers:
                del response.headers[name]
            response.headers[name] = value
        response.body = answer.body
        return response

    async def _talk_to(self, browser: Any) -> None:
        assert self._talk is not None
        try:
            await self._talk(browser)
        except self._websockets.ConnectionClosed:
            pass
        except Exception:
            log.exception("the page cannot be updated")


def _limited_connections(maximum: int) -> type:
    """A server's connection of websockets that ends at once while `maximum` others are open.

    Each connection takes one of the process's open files, which the run needs for its outputs.
    """
    from websockets.asyncio.server import ServerConnection

    opened: set[asyncio.BaseTransport] = set()

    class LimitedConnection(ServerConnection):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            if len(opened) < maximum:
                opened.add(transport)
            else:
                self.transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            opened.discard(self.transport)
            super().connection_lost(exc)

    return LimitedConnection


def _address_here() -> str:
    """The address of this machine on the local network; nothing is sent to find it out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # A documentation address (RFC 5737): only the route to it is determined.
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return THIS_MACHINE
