"""What systemd hears."""

import os
import socket
import tempfile
from pathlib import Path

import pytest

from pumpseg.watch.notify import ServiceManager

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="systemd listens on a UNIX socket")


@pytest.mark.parametrize("abstract", [False, True])
def test_it_is_told_what_sd_notify_defines(abstract):
    # The path of a UNIX socket is limited to about a hundred bytes.
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        name = f"@pumpseg-{os.getpid()}" if abstract else str(Path(folder) / "notify")
        systemd.bind(f"\0{name[1:]}" if abstract else name)
        manager = ServiceManager({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "30000000"})
        assert manager.watchdog_seconds == 30
        manager.ready("all well")
        manager.alive("still")
        manager.stopping()
        heard = [systemd.recv(1000) for _ in range(3)]
    assert heard == [b"READY=1\nSTATUS=all well", b"WATCHDOG=1\nSTATUS=still", b"STOPPING=1"]


def test_without_systemd_nothing_happens():
    ServiceManager({}).ready("x")
    ServiceManager({"NOTIFY_SOCKET": "/nowhere/notify"}).alive("x")
    assert ServiceManager({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}).watchdog_seconds is None
