"""A webhook's receiver that misbehaves as told, and events to send to it."""

import socketserver
import threading
import time
from datetime import UTC, datetime

import pytest

from pumpseg.watch.event import Event, new_event_id

JPEG = b"\xff\xd8\xff\xe0 the frame"
BLURRED = b"\xff\xd8\xff\xe0 the blurred frame"


@pytest.fixture
def make_event():
    def make(rule="crowded", camera="yard", **changes):
        changes = {"values": {"count": 3}, "snapshot": JPEG, "blurred_snapshot": BLURRED, **changes}
        return Event(new_event_id(), datetime.now(UTC), camera, rule, **changes)

    return make


@pytest.fixture
def event(make_event):
    return make_event()


class Receiver:
    """Answers each POST with the next of `answers`, then with 200.

    An answer is a status, a status with headers, bytes to send as they are, "hang" or "drip".
    requests: (headers with small names, body, answer) of all so far. acknowledged: ids that got a 2xx.
    """

    def __init__(self, port=0):
        self.answers, self.requests, self.acknowledged = [], [], []
        self.ended = threading.Event()
        receiver = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                receiver.answer(self.rfile, self.wfile)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = daemon_threads = True
            block_on_close = False

        self._server = Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook/s3cret?key=s3cret"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, rfile, wfile):
        line = rfile.readline().decode()
        headers = {"": line.strip()}
        while header := rfile.readline().decode().strip():
            name, _, value = header.partition(": ")
            headers[name.lower()] = value
        body = rfile.read(int(headers.get("content-length", 0)))
        answer = self.answers.pop(0) if self.answers else 200
        self.requests.append((headers, body, answer))
        if answer == "hang":
            self.ended.wait(30)
        elif answer == "drip":
            for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"." * 300:
                try:
                    wfile.write(bytes([byte]))
                except OSError:
                    return
                if self.ended.wait(0.05):
                    return
        elif isinstance(answer, bytes):
            wfile.write(answer)
        else:
            status, more = answer if isinstance(answer, tuple) else (answer, {})
            if 200 <= status < 300:
                self.acknowledged.append(headers["webhook-id"])
            text = "".join(f"{name}: {value}\r\n" for name, value in more.items())
            wfile.write(f"HTTP/1.1 {status} Whatever\r\n{text}Content-Length: 0\r\n\r\n".encode())

    @property
    def ids(self):
        return [headers["webhook-id"] for headers, _, _ in self.requests]

    def close(self):
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def make_receiver():
    receivers = []

    def make(port=0):
        receivers.append(Receiver(port))
        return receivers[-1]

    yield make
    for receiver in receivers:
        receiver.close()


@pytest.fixture
def receiver(make_receiver):
    return make_receiver()


@pytest.fixture
def until():
    """Waits until a condition holds, 10 s at most."""

    def wait(condition):
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end, "it did not happen within 10 s"
            time.sleep(0.01)

    return wait
