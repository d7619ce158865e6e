"""Events to an HTTP server: POST of the event's JSON, signed as Standard Webhooks describes it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import http.client
import math
import socket
import ssl
import threading
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from time import time
from typing import Any
from urllib.parse import SplitResult, urlsplit

import pumpseg
from pumpseg.errors import OptionError
from pumpseg.redaction import redacted
from pumpseg.watch.sinks.spool import Spool
from pumpseg.watch.sinks.spooled_sink import Refused, RetryLater, SpooledSink

TIMEOUT = 20.0
# This event is at fault. Everything else, such as a wrong token or path, may be put right on either side.
_REFUSED = (400, 413, 415, 422)
_SECRET_PREFIX = "whsec_"


class WebhookSink(SpooledSink):
    """Posts each event to a URL; any status from 200 to 299 acknowledges it.

    Headers: webhook-id (the event's id: receivers ignore one that they have seen), webhook-timestamp and, with a
    secret, webhook-signature, as in https://www.standardwebhooks.com; Idempotency-Key, again the id.
    secret: "whsec_" and base64, or any text. token: sent as a bearer token. timeout: seconds for one attempt as a
    whole, however slowly the server answers.
    400, 413, 415 and 422 say that this event will never be accepted: it is dropped. After anything else it is retried;
    a Retry-After is honoured up to an hour. Redirects are not followed.
    Raises OptionError for a URL or secret that cannot be used.
    """

    def __init__(
        self,
        url: str,
        spool: Spool,
        *,
        secret: str | None = None,
        token: str | None = None,
        name: str = "",
        timeout: float = TIMEOUT,
        **options: Any,
    ) -> None:
        self._url = _checked(url)
        self._key = None if secret is None else _key(secret)
        if token is not None and not (token.isascii() and token.isprintable()):
            raise OptionError("the token of a webhook must be printable ASCII")
        self._token = token
        self._timeout = timeout
        self._tls = ssl.create_default_context() if self._url.scheme == "https" else None
        self._connection: http.client.HTTPConnection | None = None
        # The last part of the path is the secret of many services.
        super().__init__(name or f"webhook {self._url.netloc}", spool, **options)
        self.start()

    def deliver(self, event_id: str, content: bytes) -> None:
        # A server that sends a byte now and then would never run into the timeout of the socket.
        deadline = threading.Timer(self._timeout, self.interrupt)
        deadline.daemon = True
        deadline.start()
        try:
            status, headers = self._post(event_id, content)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise RetryLater(f"no answer ({_reason(error)})") from None
        finally:
            deadline.cancel()
        if 200 <= status < 300:
            return
        if status in _REFUSED:
            raise Refused(f"the server answered {status}")
        if 300 <= status < 400:
            place = urlsplit(headers.get("Location", "")).hostname or "another path"
            raise RetryLater(f"the server answered {status}, a redirect to {place}: name the URL that it leads to")
        raise RetryLater(f"the server answered {status}", _retry_after(headers))

    def _post(self, event_id: str, content: bytes) -> tuple[int, Message]:
        host, port = self._url.hostname or "", self._url.port
        if self._tls is None:
            connection = http.client.HTTPConnection(host, port, timeout=self._timeout)
        else:
            connection = http.client.HTTPSConnection(host, port, timeout=self._timeout, context=self._tls)
        self._connection = connection
        try:
            path = self._url.path or "/"
            query = f"?{self._url.query}" if self._url.query else ""
            connection.request("POST", path + query, content, self._headers(event_id, content))
            response = connection.getresponse()
            return response.status, response.headers
        finally:
            self._connection = None
            connection.close()

    def _headers(self, event_id: str, content: bytes) -> dict[str, str]:
        moment = int(time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"pumpseg/{pumpseg.__version__}",
            "Idempotency-Key": event_id,
            "webhook-id": event_id,
            "webhook-timestamp": str(moment),
        }
        if self._key is not None:
            headers["webhook-signature"] = signature(self._key, event_id, moment, content)
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        return headers

    def interrupt(self) -> None:
        connection = self._connection
        sock = None if connection is None else connection.sock
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it has just been closed


def signature(key: bytes, event_id: str, timestamp: int, content: bytes) -> str:
    """The value of webhook-signature: HMAC-SHA256 of id, time and body (Standard Webhooks, "Signature scheme")."""
    signed = b".".join((event_id.encode(), str(timestamp).encode(), content))
    return f"v1,{base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()}"


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith(_SECRET_PREFIX):
        key = secret.encode()
    if not key:
        raise OptionError(f"the secret of a webhook is empty, or has no base64 after {_SECRET_PREFIX}")
    return key


def _checked(url: str) -> SplitResult:
    parts = urlsplit(url)
    try:
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 0) >= 0
    except ValueError:
        usable = False
    if not usable or not url.isascii() or not url.isprintable() or " " in url:
        raise OptionError(f"a webhook needs a URL with http or https and a host, not {redacted(url)!r}")
    if parts.username is not None or parts.password is not None:
        host = parts.netloc.rpartition("@")[2]
        raise OptionError(f"the URL of the webhook at {host} has a user in it: use a token instead")
    return parts


def _retry_after(headers: Message) -> float:
    """Seconds, from a number or a date; 0 if there is none, or it is neither."""
    value = headers.get("Retry-After", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value).astimezone(UTC) - datetime.now(UTC)).total_seconds()
        except (ValueError, OverflowError):
            return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0


def _reason(error: Exception) -> str:
    if isinstance(error, http.client.HTTPException):
        return "not an answer in HTTP"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
