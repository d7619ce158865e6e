"""Clients of the live page: WebSocket viewers, and requests."""

import base64
import json
import os
import socket
import urllib.error
import urllib.request

import cv2
import numpy as np
from websockets.sync.client import connect


def watch(page, **options):
    address, query = page.url.removeprefix("http").partition("?")[::2]
    return connect(f"ws{address}live?{query}", compression=None, **options)


def next_frame(viewer):
    """Figures and picture, uint8 BGR, of the next frame, which is then confirmed as shown."""
    figures, jpeg = json.loads(viewer.recv(timeout=20)), viewer.recv(timeout=20)
    viewer.send("")
    return figures, cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


def fetch(url, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers


def deaf_viewers(page, count):
    """Connections that ask for the frames and never read one."""
    host, port = page.url.split("/")[2].split(":")
    opened = [socket.create_connection((host, int(port))) for _ in range(count)]
    for connection in opened:
        key = base64.b64encode(os.urandom(16)).decode()
        connection.sendall(
            f"GET /live HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
    return opened
