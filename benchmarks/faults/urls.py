"""Hostile servers on 127.0.0.1: what a camera, a proxy or an attacker may answer."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
from commands import Case, WarmCommands, emptied, left_hidden, line
from commands import run as run_command
from media import demo_frames, write_video

_SCHEMES = ("http", "rtsp", "rtmp")
# Such a stream is watched for so long, then stopped as by Ctrl-C.
_ENDLESS_SECONDS = 20.0
Answer = Callable[[socket.socket, "Server"], None]


class Server:
    """Answers every connection in the way that is named by the path of the request, or `always` the same."""

    def __init__(self, folder: Path, always: str | None = None) -> None:
        frames = demo_frames(20)
        write_video(folder / "secret.mp4", frames, "libx264", "yuv420p", {"movflags": "faststart"})
        self.secret = folder / "secret.mp4"
        self.video = self.secret.read_bytes()
        self.jpeg = cv2.imencode(".jpg", frames[0])[1].tobytes()
        self.closing = threading.Event()
        self._always = always
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self.closing.set()
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                request = connection.recv(65536).decode("latin-1")
                name = "" if self._always else request.split(" ")[1].rsplit("/", 1)[-1].partition("?")[0]
                ANSWERS[self._always or name.partition(".")[0]](connection, self)
            except (OSError, IndexError, KeyError):
                return


def _send(kind: str, body: Callable[[Server], bytes], *, length: int | None = None, more: str = "") -> Answer:
    """A complete answer; length: what it says of its length, the true one by default."""

    def answer(connection: socket.socket, server: Server) -> None:
        content = body(server)
        size = len(content) if length is None else length
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n{more}\r\n"
        connection.sendall(head.encode() + content)

    return answer


def _redirect(target: Callable[[Server], str]) -> Answer:
    return lambda connection, server: connection.sendall(
        f"HTTP/1.1 302 Found\r\nLocation: {target(server)}\r\nContent-Length: 0\r\n\r\n".encode()
    )


def _playlist(*lines: str) -> Answer:
    def body(server: Server) -> bytes:
        text = "\n".join(("#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:2", *lines))
        return text.replace("SECRET", str(server.secret)).replace("URL", server.url).encode()

    return _send("application/vnd.apple.mpegurl", body)


def _endless(first: Callable[[Server], bytes], block: Callable[[Server], bytes], pause: float = 0.0) -> Answer:
    def answer(connection: socket.socket, server: Server) -> None:
        connection.sendall(first(server))
        content = block(server)
        while not server.closing.is_set():
            connection.sendall(content)
            time.sleep(pause)

    return answer


def _stall(what: Callable[[Server], bytes]) -> Answer:
    """Sends the beginning, then nothing more."""

    def answer(connection: socket.socket, server: Server) -> None:
        connection.sendall(what(server))
        server.closing.wait(120)

    return answer


def _cameras_part(jpeg: bytes, length: int | None = None) -> bytes:
    size = len(jpeg) if length is None else length
    return f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {size}\r\n\r\n".encode() + jpeg + b"\r\n"


_OK = b"HTTP/1.1 200 OK\r\n"
_VIDEO = _OK + b"Content-Type: video/mp4\r\n"
_CAMERA = _OK + b"Content-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"
ANSWERS: dict[str, Answer] = {
    "redirect_file": _redirect(lambda server: f"file://{server.secret}"),
    "redirect_path": _redirect(lambda server: str(server.secret)),
    "redirect_loop": _redirect(lambda server: f"{server.url}/redirect_loop"),
    "redirect_concat": _redirect(lambda server: f"concat:{server.secret}|{server.secret}"),
    "redirect_data": _redirect(lambda server: "data:video/mp4;base64,AAAA"),
    "redirect_gopher": _redirect(lambda server: f"gopher://127.0.0.1:{server.port}/x"),
    "redirect_long": _redirect(lambda server: f"{server.url}/{'a' * 100_000}"),
    "refused": lambda connection, server: connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"),
    "broken": lambda connection, server: connection.sendall(b"HTTP/1.1 503 Oh\r\nContent-Length: 0\r\n\r\n"),
    "closed": lambda connection, server: None,
    "nonsense": lambda connection, server: connection.sendall(bytes(range(256)) * 40),
    "html": _send("text/html", lambda server: b"<html><body>log in</body></html>"),
    "html_as_video": _send("video/mp4", lambda server: b"<html><body>log in</body></html>"),
    "empty": _send("video/mp4", lambda server: b""),
    "too_short": _send("video/mp4", lambda server: server.video[: len(server.video) // 2], length=10**6),
    "too_long": _send("video/mp4", lambda server: server.video, length=100),
    "petabytes": _send("video/mp4", lambda server: server.video, length=10**16),
    "gzip": _send("video/mp4", lambda server: server.video, more="Content-Encoding: gzip\r\n"),
    "chunks": lambda connection, server: connection.sendall(
        _VIDEO + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n" + server.video
    ),
    "stall_head": _stall(lambda server: b"HTTP/1.1 200 OK\r\nContent-"),
    "stall_silent": _stall(lambda server: b""),
    "stall_body": _stall(
        lambda server: _VIDEO + f"Content-Length: {len(server.video)}\r\n\r\n".encode() + server.video[:5000]
    ),
    "stall_camera": _stall(lambda server: _CAMERA + 3 * _cameras_part(server.jpeg)),
    "drip": _endless(lambda server: _VIDEO + b"Content-Length: 1000000\r\n\r\n", lambda server: b"\0", 0.5),
    "endless_head": _endless(lambda server: _OK, lambda server: b"X-More: " + b"a" * 5000 + b"\r\n"),
    "endless_zeros": _endless(lambda server: _VIDEO + b"\r\n", lambda server: bytes(65536)),
    "endless_camera": _endless(lambda server: _CAMERA, lambda server: _cameras_part(server.jpeg), 0.04),
    "endless_noise": _endless(lambda server: _CAMERA, lambda server: _cameras_part(b"\xff\xd8" + b"no" * 400), 0.04),
    "camera_huge": _endless(lambda server: _CAMERA + _cameras_part(b"", 2**31 - 1), lambda server: bytes(65536), 0.001),
    "camera_negative": _endless(lambda server: _CAMERA, lambda server: _cameras_part(server.jpeg, -5), 0.04),
    "playlist_file": _playlist("#EXTINF:2,", "file://SECRET", "#EXT-X-ENDLIST"),
    "playlist_path": _playlist("#EXTINF:2,", "SECRET", "#EXT-X-ENDLIST"),
    "playlist_concat": _playlist("#EXTINF:2,", "concat:SECRET|SECRET", "#EXT-X-ENDLIST"),
    "playlist_key": _playlist(
        '#EXT-X-KEY:METHOD=AES-128,URI="file://SECRET"', "#EXTINF:2,", "URL/too_long.ts", "#EXT-X-ENDLIST"
    ),
    "playlist_subfile": _playlist("#EXTINF:2,", "subfile,,start,0,end,0,,:SECRET", "#EXT-X-ENDLIST"),
    "playlist_self": _playlist("#EXTINF:2,", "URL/playlist_self.m3u8", "#EXT-X-ENDLIST"),
    "playlist_master_self": _playlist("#EXT-X-STREAM-INF:BANDWIDTH=1000", "URL/playlist_master_self.m3u8"),
    "playlist_long": _playlist(*(["#EXTINF:2,", "URL/refused.ts"] * 20_000), "#EXT-X-ENDLIST"),
    "playlist_live": _playlist("#EXTINF:2,", "URL/closed.ts"),
    "manifest_dash": _send(
        "application/dash+xml",
        lambda server: (
            f"<MPD><Period><AdaptationSet><Representation><BaseURL>file://{server.secret}</BaseURL>"
            "</Representation></AdaptationSet></Period></MPD>".encode()
        ),
    ),
    "sdp": _send("application/sdp", lambda server: b"v=0\r\nc=IN IP4 127.0.0.1\r\nm=video 0 RTP/AVP 96\r\n"),
    "concat_script": _send("text/plain", lambda server: f"ffconcat version 1.0\nfile {server.secret}\n".encode()),
}
_LEGAL = (
    "endless_camera",
    "too_long",
    "petabytes",
    "gzip",
    "stall_camera",
    "camera_negative",
    "chunks",
    "too_short",
    "stall_body",
)
"""Answers that hold a film after all."""
_TO_ALL = ("nonsense", "stall_silent", "closed", "html")
_SUFFIX = {"playlist": ".m3u8", "manifest": ".mpd", "sdp": ".sdp", "concat": ".ffconcat"}


def run(count: int, rng: random.Random, work: Path, warm: WarmCommands) -> Iterator[Case]:
    """`count` cases: every answer over HTTP, then servers that speak HTTP or nonsense where RTSP or RTMP is expected.

    Eight at a time: most of them wait.
    """
    urls = [("http", name) for name in ANSWERS]
    urls += [(scheme, name) for scheme in _SCHEMES[1:] for name in _TO_ALL]
    chosen = [urls[number % len(urls)] for number in range(count)]

    def one(numbered: tuple[int, tuple[str, str]]) -> Case:
        number, (scheme, name) = numbered
        with emptied(work / f"server-{number}") as own, emptied(work / f"case-{number}") as folder:
            server = Server(own, None if scheme == "http" else name)
            try:
                return _case(server, folder, scheme, name)
            finally:
                server.close()

    with ThreadPoolExecutor(8) as pool:
        yield from pool.map(one, enumerate(chosen))


def _case(server: Server, folder: Path, scheme: str, name: str) -> Case:
    url = f"{scheme}://127.0.0.1:{server.port}/{name}{_SUFFIX.get(name.partition('_')[0], '')}"
    outputs = ("--save", "out.mp4", "--json", "out.jsonl")
    words = [url, *outputs, "--reconnect", "1", "--no-show", "--threads", "1", "--model", "fast-int8"]

    def interrupt(process: subprocess.Popen) -> None:
        try:
            process.wait(_ENDLESS_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)

    endless = name.startswith(("endless", "drip", "camera", "stall_camera"))
    ended = run_command(line("pumpseg-video", *words), folder, disturb=interrupt if endless else None)
    problems = ended.problems({0, 1, 2, 130})
    frames = (folder / "out.jsonl").read_text(encoding="utf-8") if (folder / "out.jsonl").exists() else ""
    if frames and name not in _LEGAL:
        problems.append(f"{len(frames.splitlines())} frames from nowhere")
    return Case(scheme, name, ended, problems + left_hidden(folder), folder)
