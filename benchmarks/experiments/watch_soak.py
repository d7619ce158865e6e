"""Runs `pumpseg-watch` for a long time with faults, and checks that it stays flat, fair and complete.

    python benchmarks/experiments/watch_soak.py               # 30 minutes, four cameras that play the demo clip
    python benchmarks/experiments/watch_soak.py --minutes 5
    python benchmarks/experiments/watch_soak.py --source rtsp://camera.local/stream --source webcam

In the second quarter the webhook's receiver answers 500, then nothing at all; in the middle the watch is killed with
SIGKILL and started again; then the model file is replaced, at first by a damaged one. Exits with 1 if once that has
settled memory grows by 20 MB or open files by 4 (the least of the last third over that of the first), cameras of the
same source differ in frame rate by more than a tenth, an event came twice, or one that was accepted did not arrive.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections import Counter
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic, sleep

from pumpseg.cli.arguments import count, positive
from pumpseg.cli.command import CommandParser, run_command
from pumpseg.inference.model_file import find_model

LIMIT_MB = 20.0
LIMIT_FILES = 4
FAIRNESS = 0.1
SETTLED_SECONDS = 240.0

CONFIG = """
[model]
file = "model.onnx"
threads = {threads}
[health]
address = "127.0.0.1:{port}"
[page]
address = "127.0.0.1:0"
[sinks.jsonl]
path = "events.jsonl"
[sinks.webhook]
url = "http://127.0.0.1:{hook}/events"
[sinks.snapshots]
folder = "snapshots"
[sinks.clips]
folder = "clips"
before = 2.0
after = 2.0
max_gb = 0.2
[collect]
folder = "hard"
[[rule]]
name = "moved"
when = "entered(half)"
cooldown = 2.0
[[rule]]
name = "some"
when = "count(half) >= 1 for 1 s"
cooldown = 5.0
"""
CAMERA = """
[[camera]]
name = "camera-{number}"
source = "{source}"
{fps}
[[camera.zone]]
name = "half"
polygon = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]
[[camera.line]]
name = "middle"
points = [[0.5, 0.0], [0.5, 1.0]]
"""


class Receiver(ThreadingHTTPServer):
    """Takes events, unless it is told to fail; `ids` counts how often each came."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.ids: Counter[str] = Counter()
        self.mode = "well"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.mode == "away":
            self.connection.close()
            return
        if self.server.mode == "well":
            self.server.ids[json.loads(body)["id"]] += 1
        self.send_response(204 if self.server.mode == "well" else 500)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Watched:
    """The command in a process of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/metrics"
        self._log = (folder / "log").open("ab")
        command = [sys.executable, "-m", "pumpseg.cli.watch", str(folder / "cameras.toml")]
        self.process = subprocess.Popen(command, stderr=self._log)

    def metrics(self) -> dict[str, float]:
        """Every metric with its labels, as Prometheus sees it; empty while nothing answers."""
        try:
            with urllib.request.urlopen(self._url, timeout=20) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return {}
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines) if name[:1] != "#"}

    def wait_until_live(self, cameras: int) -> None:
        end = monotonic() + 300
        while sum(self.metrics().get(frames_of(number), 0) > 3 for number in range(cameras)) < cameras:
            if self.process.poll() is not None or monotonic() > end:
                raise SystemExit("the watch does not start: see its log above")
            sleep(1)

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        code = self.process.wait(120)
        self._log.close()
        return code


def frames_of(number: int) -> str:
    return f'pumpseg_frames_total{{camera="camera-{number + 1}"}}'


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=positive, default=30.0)
    parser.add_argument("--source", action="append", help="of a camera; repeat for more (default: demo, four times)")
    parser.add_argument("--model", default="fast-int8")
    parser.add_argument("--threads", type=count, default=2)
    parser.add_argument("--fps", type=positive, help="of each camera, from 1.25 on, where other work needs the cores")
    arguments = parser.parse_args(argv)
    return run_command(parser.prog, lambda: soak(arguments))


def soak(arguments: argparse.Namespace) -> int:
    sources = arguments.source or ["demo"] * 4
    receiver = Receiver()
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), _free_port()
        shutil.copy(find_model(arguments.model), folder / "model.onnx")
        text = CONFIG.format(threads=arguments.threads, port=port, hook=receiver.server_port)
        fps = f"fps = {arguments.fps}" if arguments.fps else ""
        text += "".join(CAMERA.format(number=i + 1, source=source, fps=fps) for i, source in enumerate(sources))
        (folder / "cameras.toml").write_text(text, encoding="utf-8")
        quarter = 60 * arguments.minutes / 4
        watch = Watched(folder, port)
        try:
            watch.wait_until_live(len(sources))
            observe(watch, quarter, sources, "first quarter")
            receiver.mode = "500"
            observe(watch, quarter / 2, sources, "the receiver answers 500")
            receiver.mode = "away"
            observe(watch, quarter / 2, sources, "the receiver is away")
            watch.end(signal.SIGKILL)
            print("killed", flush=True)
            watch = Watched(folder, port)
            receiver.mode = "well"
            watch.wait_until_live(len(sources))
            restarted = monotonic()
            replace_model(folder, b"half a model")
            observe(watch, quarter / 4, sources, "a damaged model")
            replace_model(folder, find_model(arguments.model).read_bytes())
            # Buffers fill, clips have been made, and the model before has been released.
            observe(watch, min(SETTLED_SECONDS, quarter * 3 / 4), sources, "a new model settles")
            before, start = watch.metrics(), monotonic()
            seen = observe(watch, 2 * quarter - (monotonic() - restarted), sources, "a new model")
            problems += compared(before, seen, monotonic() - start, sources)
            code = watch.end(signal.SIGTERM)
            problems += [f"exit code {code}"] if code else []
        finally:
            if watch.process.poll() is None:
                watch.end(signal.SIGKILL)
            print((folder / "log").read_text(encoding="utf-8", errors="replace")[-3000:])
        problems += events_compared(folder, receiver.ids)
        sizes = {path.name: sum(1 for _ in path.rglob("*")) for path in folder.iterdir() if path.is_dir()}
        print(f"files: {sizes}")
    receiver.shutdown()
    print("\n".join(problems) or "all is well")
    return int(bool(problems))


def observe(watch: Watched, seconds: float, sources: Sequence[str], what: str) -> list[dict[str, float]]:
    """The metrics every 15 seconds, which are printed."""
    end, all_seen = monotonic() + seconds, []
    while (left := end - monotonic()) > 0:
        sleep(min(15.0, left))
        seen = watch.metrics()
        all_seen.append(seen)
        fps = " ".join(f"{seen.get(fps_of(number), 0):5.2f}" for number in range(len(sources)))
        waiting = sum(value for name, value in seen.items() if name.startswith("pumpseg_spool_length"))
        events = sum(value for name, value in seen.items() if name.startswith("pumpseg_events_total"))
        megabytes, files = resources(seen)
        print(
            f"{what}: {fps} fps, {megabytes:.1f} MB, {files} files, {events:.0f} events, {waiting:.0f} wait", flush=True
        )
    return all_seen


def fps_of(number: int) -> str:
    return f'pumpseg_fps{{camera="camera-{number + 1}"}}'


def resources(metrics: dict[str, float]) -> tuple[float, int]:
    return metrics.get("process_resident_memory_bytes", 0.0) / 1e6, int(metrics.get("process_open_fds", 0))


def least(seen: Sequence[dict[str, float]]) -> tuple[float, int]:
    """The least memory and open files: a clip that is being made takes some of both, what leaks is there always."""
    used = [resources(metrics) for metrics in seen]
    return min(megabytes for megabytes, _ in used), min(files for _, files in used)


def compared(
    before: dict[str, float], seen: Sequence[dict[str, float]], took: float, sources: Sequence[str]
) -> list[str]:
    """What is wrong with the figures of a settled watch: `before`, and those seen in the `took` seconds since."""
    problems, after = [], seen[-1]
    third = max(1, len(seen) // 3)
    (least_then, files_then), (least_now, files_now) = least(seen[:third]), least(seen[-third:])
    grown, opened = least_now - least_then, files_now - files_then
    rates = [(after[frames_of(i)] - before[frames_of(i)]) / took for i in range(len(sources))]
    print(f"in {took:.0f} s: {grown:+.1f} MB, {opened:+} files, {' '.join(f'{rate:.3f}' for rate in rates)} fps")
    print(f"model swaps {after['pumpseg_model_swaps_total']:.0f}, refused {after['pumpseg_models_refused_total']:.0f}")
    if grown >= LIMIT_MB:
        problems.append(f"memory has grown by {grown:.1f} MB")
    if opened >= LIMIT_FILES:
        problems.append(f"{opened} files stayed open")
    if len(set(sources)) == 1 and max(rates) > (1 + FAIRNESS) * min(rates):
        problems.append(f"frame rates differ by more than {FAIRNESS:.0%}")
    if after["pumpseg_model_swaps_total"] != 1 or after["pumpseg_models_refused_total"] != 1:
        problems.append("one model should have been taken, and one refused")
    return problems


def events_compared(folder: Path, received: Counter[str]) -> list[str]:
    """What is wrong with the events: those in the file, and those that the receiver has acknowledged."""
    written = [json.loads(line)["id"] for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    waiting = {path.stem for path in (folder / "pumpseg-state" / "webhook").glob("*.json")}
    print(f"{len(written)} events written, {len(received)} received, {len(waiting)} still wait")
    problems = [f"{event} was written twice" for event, times in Counter(written).items() if times > 1]
    problems += [f"{event} was received {times} times" for event, times in received.items() if times > 1]
    # A sink may have accepted an event when the process was killed before the next sink had it.
    missing = set(written) - set(received) - waiting
    problems += [f"{len(missing)} events were written and never arrived"] if len(missing) > 1 else []
    extra = set(received) - set(written)
    problems += [f"{len(extra)} events arrived that were not written"] if len(extra) > 1 else []
    return problems


def replace_model(folder: Path, content: bytes) -> None:
    (folder / "new.onnx").write_bytes(content)
    (folder / "new.onnx").replace(folder / "model.onnx")


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
