"""Tells systemd that the service is ready and alive, by sd_notify(3): a datagram to the socket that it names."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class ServiceManager:
    """systemd, or nobody where the process was not started by it.

    Attributes: `watchdog_seconds`, within which `alive` must be called again (WatchdogSec= of the unit), or None.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        # An address that begins with @ is in Linux's abstract namespace.
        self._address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        mine = environment.get("WATCHDOG_PID") in (None, str(os.getpid()))
        microseconds = environment.get("WATCHDOG_USEC", "")
        self.watchdog_seconds = int(microseconds) / 1e6 if mine and microseconds.isdecimal() else None

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={status}")

    def alive(self, status: str) -> None:
        self._send(f"WATCHDOG=1\nSTATUS={status}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address or not hasattr(socket, "AF_UNIX"):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            try:
                connection.settimeout(1)
                connection.sendto(message.encode(), self._address)
            except OSError:
                return  # systemd restarts what it does not hear from
