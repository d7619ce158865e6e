"""A thousand connections that say nothing, to the page of a run that records."""

from __future__ import annotations

import random
import re
import resource
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import av
from commands import Case, WarmCommands, emptied, errors_of, left_hidden, line
from commands import run as run_command
from urls import Server

CONNECTIONS, FRAMES = 1000, 150
_PAGE = re.compile(r"live page: http://[^:]+:(\d+)/")


def run(count: int, rng: random.Random, work: Path, warm: WarmCommands) -> Iterator[Case]:
    """`count` cases, in turn on 127.0.0.1 and on 0.0.0.0."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * CONNECTIONS)), hard))
    server = Server(work)
    try:
        for number in range(count):
            with emptied(work / f"case-{number}") as folder:
                yield _case(server, folder, ("127.0.0.1", "0.0.0.0")[number % 2], rng)
    finally:
        server.close()


def _case(server: Server, folder: Path, host: str, rng: random.Random) -> Case:
    opened: list[socket.socket] = []

    def crowd(process: subprocess.Popen) -> None:
        port = _port_of(errors_of(folder), process)
        for number in range(CONNECTIONS):
            connection = socket.create_connection(("127.0.0.1", port), timeout=10)
            if number % 2:  # the others say nothing at all
                connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
            opened.append(connection)

    words = [f"{server.url}/endless_camera", "--save", "rec.mp4", "--json", "rec.jsonl", "--limit", str(FRAMES)]
    words += ["--serve", f"{host}:0", "--threads", "1", "--model", "fast-int8"]
    ended = run_command(line("pumpseg-video", *words), folder, disturb=crowd)
    problems = ended.problems({0})
    if len(opened) != CONNECTIONS:
        problems.append(f"only {len(opened)} connections were made")
    for connection in opened:
        connection.close()
    try:
        with av.open(str(folder / "rec.mp4")) as container:
            frames = sum(1 for _ in container.decode(video=0))
        if frames != FRAMES or len((folder / "rec.jsonl").read_text(encoding="utf-8").splitlines()) != FRAMES:
            problems.append(f"{frames} frames recorded instead of {FRAMES}")
    except OSError as error:
        problems.append(f"the recording cannot be read: {error}")
    return Case(host, f"{CONNECTIONS} connections", ended, problems + left_hidden(folder), folder)


def _port_of(errors: Path, process: subprocess.Popen) -> int:
    while process.poll() is None:
        found = _PAGE.search(errors.read_text(encoding="utf-8"))
        if found:
            return int(found[1])
        time.sleep(0.05)
    raise RuntimeError(errors.read_text(encoding="utf-8"))
