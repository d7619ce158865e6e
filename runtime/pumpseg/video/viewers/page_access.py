"""Where the live page is served, and who may see it."""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

THIS_MACHINE = "127.0.0.1"


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
            raise ValueError(f"must be [HOST:]PORT, such as 8000, 0.0.0.0:8000 or [::]:8000, got {text!r}")
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

    A browser that another site's name led here (DNS rebinding) still sends that name as the host. So only these hosts
    are accepted: `names`, and loopback addresses if `local`, else any IP address.
    token: must be in the query of every request, or None.
    """

    names: frozenset[str]
    local: bool
    token: str | None = None

    @classmethod
    def to(cls, address: PageAddress, token: str | None = None) -> Access:
        """For a page at an address. If other machines can reach it and no token is given, a random one is made."""
        if address.is_local:
            return cls(frozenset({"localhost"}), local=True, token=token)
        here = socket.gethostname().lower()
        names = frozenset({"localhost", address.host, here, f"{here}.local"})
        return cls(names, local=False, token=token or secrets.token_urlsafe(16))

    def refusal(self, headers: Any, query: str) -> str | None:
        """Why a request is refused, or None. headers: of the request, with a method `get_all`."""
        hosts, origins = headers.get_all("Host"), headers.get_all("Origin")
        if len(hosts) != 1 or not self._is_known(_host_name(f"//{hosts[0]}")):
            return "this page has another host name: open the address that was printed"
        # https: behind a proxy. Extensions of the browser have schemes of their own.
        known = {f"{scheme}://{hosts[0].lower()}" for scheme in ("http", "https")}
        if any(origin.lower() not in known for origin in origins):
            return "other sites may not use this page"
        given = parse_qs(query).get("token", [])
        if self.token and not (len(given) == 1 and hmac.compare_digest(given[0].encode(), self.token.encode())):
            return "the token is missing or wrong: open the full address that was printed"
        return None

    def _is_known(self, host: str) -> bool:
        return host in self.names or (_is_loopback(host) if self.local else _is_ip(host))


def websocket_sources(host: str) -> str:
    """The address of the page's WebSocket for a Content-Security-Policy. host: of a request that `Access` let in."""
    # The policy's grammar has no IPv6 addresses and no odd characters; 'self' is the page's own host and port.
    if not re.fullmatch(r"[A-Za-z0-9.-]+(:\d+)?", host):
        return "'self'"
    return f"ws://{host}/live wss://{host}/live"


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
