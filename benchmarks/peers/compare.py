"""Measures pumpseg and its peers in one run, in rounds, and writes the table into benchmarks/README.md.

Runs in pumpseg's environment, with the peers in another; run.py makes both and calls this.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from pumpseg.atomic_file import write_text
from pumpseg.errors import PumpsegError
from pumpseg.inference.model_file import find_model
from pumpseg.segmenter import Segmenter
from pumpseg_bench import machine
from pumpseg_bench.frames import FrameFile, showing, write_frames
from pumpseg_bench.latency import CONFIDENCE, median_interval
from pumpseg_bench.worker import Setup
from pumpseg_bench.worker_process import WORKER, WorkerProcess

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
ROUNDS = 10
WARMUP_FRAMES = 3
_RESAMPLES = 2000


@dataclass
class Contender:
    """A row of the table; `command` and `argument` start its worker. Milliseconds by round."""

    name: str
    side: str
    threads: int
    command: Sequence[str]
    argument: str
    latency: list[list[float]] = field(default_factory=list)
    session: list[list[float]] = field(default_factory=list)
    instances: int = 0

    def measure(self, worker: WorkerProcess, count: int) -> None:
        worker.ask("run", count=1)
        answer = worker.ask("run", count=count)
        self.instances += answer["instances"]
        steps = answer.get("steps", answer)
        # Peers give finished masks, so pumpseg's are pasted too.
        masks = steps.get("masks", [0.0] * count)
        self.latency.append([latency + pasting for latency, pasting in zip(steps["latency"], masks, strict=True)])
        self.session.append(steps["session"])


def contenders(
    models: Sequence[str], peers: Path, peer_python: str, sides: Sequence[int], threads: int, frames: FrameFile
) -> list[Contender]:
    """pumpseg's models on every CPU provider, then the peers at every input side."""
    rows = []
    for model in models:
        path = find_model(model)
        side = str(Segmenter(path, provider="cpu").info.input_size[1])
        for provider in ("cpu", "openvino"):
            setup = Setup(str(path), provider, threads, 1, frames)
            name = f"pumpseg {path.stem}" + ("" if provider == "cpu" else ", OpenVINO")
            rows.append(Contender(name, side, threads, WORKER, setup.to_json()))
    worker = (peer_python, str(HERE / "ultralytics_worker.py"))
    for peer_side in sides:
        for path in sorted(peers.glob(f"*-{peer_side}.onnx")):
            argument = {"model": str(path), "side": peer_side, "threads": threads, "frames": asdict(frames)}
            rows.append(
                Contender(
                    path.stem.rsplit("-", 1)[0], str(peer_side), threads, worker, json.dumps(argument, default=str)
                )
            )
    return rows


def only_showing(instances: int, frames: FrameFile, segmenter: Segmenter, path: Path) -> FrameFile:
    """The frames as `pumpseg_bench.frames.showing` picks and covers them, written to `path`.

    Raises PumpsegError if none shows so many instances.
    """
    images = []
    for index in range(frames.count):
        images.append(frames.empty())
        frames.read(index, images[-1])
    chosen = list(showing(instances, images, segmenter))
    if not chosen:
        raise PumpsegError(f"none of {frames.count} frames shows {instances} instances")
    path.write_bytes(b"".join(image.tobytes() for image in chosen))
    return FrameFile(path, len(chosen), frames.height, frames.width)


def measure(rows: Sequence[Contender], frames: int) -> float:
    """Start all workers and let them take turns. Returns the cores that other processes kept busy."""
    turns = random.Random(0)
    workers: list[WorkerProcess] = []
    try:
        for row in rows:
            say(f"starting {row.name} {row.side}, threads: {row.threads}")
            workers.append(WorkerProcess(row.argument, row.command).opened())
            workers[-1].ask("run", count=WARMUP_FRAMES)
        others = machine.ExternalLoadMeter(workers)
        for number in range(ROUNDS):
            say(f"round {number + 1} of {ROUNDS}")
            for i in turns.sample(range(len(rows)), len(rows)):
                rows[i].measure(workers[i], max(1, frames // ROUNDS))
        return others.cores()
    finally:
        for worker in workers:
            worker.close()


def ratio_interval(rows: Sequence[Sequence[float]], base: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Ratio of the medians of two rows that took turns, and its confidence interval: rounds are drawn in pairs."""
    rng = np.random.default_rng(0)
    ours, theirs = np.array(rows), np.array(base)
    drawn = rng.integers(len(ours), size=(_RESAMPLES, len(ours)))
    ratios = np.median(ours[drawn].reshape(_RESAMPLES, -1), 1) / np.median(theirs[drawn].reshape(_RESAMPLES, -1), 1)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(ratios, [tail, 100 - tail])
    return float(np.median(ours) / np.median(theirs)), float(low), float(high)


def table(
    groups: Sequence[Sequence[Contender]], frames: FrameFile, source: str, peer_versions: str, others: float
) -> str:
    """Machine, frames and rows, each row compared with the first of its group, in Markdown."""
    here = machine.describe()
    versions = ", ".join(f"{name} {number}" for name, number in here.versions.items())
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {here.processor}, {here.cores} cores, {here.system}; "
        f"{versions}; {peer_versions}. "
        f"Frames of {frames.width}x{frames.height} from {source}: {frames.count}; "
        f"{len(groups[0][0].latency) * len(groups[0][0].latency[0])} measured of each row.",
        "",
        "| threads | what | input | whole frame, ms (95% interval) | network alone, ms | times pumpseg's | instances |",
        "|---|---|---|---|---|---|---|",
    ]
    for group in groups:
        for row in group:
            low, high = median_interval(row.latency)
            ratio, ratio_low, ratio_high = ratio_interval(row.latency, group[0].latency)
            times = "1" if row is group[0] else f"{ratio:.2f} ({ratio_low:.2f}–{ratio_high:.2f})"
            measured = sum(len(samples) for samples in row.latency)
            lines.append(
                f"| {row.threads} | {row.name} | {row.side} | {np.median(row.latency):.1f} ({low:.1f}–{high:.1f}) | "
                f"{np.median(row.session):.1f} | {times} | {row.instances / measured:.1f} |"
            )
    if others > 0.1 * here.cores:
        lines += ["", f"**The machine was busy: other processes used {others:.1f} of {here.cores} cores.**"]
    return "\n".join(lines)


def insert(text: str, section: str, name: str) -> str:
    """The README with the section between the markers of `name` replaced.

    Raises PumpsegError without them.
    """
    begin, end = f"<!-- {name}: made by peers/run.py -->", f"<!-- end of {name} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise PumpsegError(f"{README.name} must hold {begin!r} and {end!r} once each")
    return f"{text[: text.index(begin) + len(begin)]}\n\n{section}\n\n{text[text.index(end) :]}"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, required=True, help="folder of the peers' ONNX files")
    parser.add_argument("--peer-python", required=True, help="interpreter that has the peers' packages")
    parser.add_argument("--peer-versions", required=True)
    parser.add_argument("--sides", type=int, nargs="+", required=True)
    parser.add_argument("--threads", type=int, nargs="+", required=True)
    parser.add_argument("--frames", type=int, required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--instances", type=int)
    parser.add_argument("--readme", type=Path, default=README)
    arguments = parser.parse_args()
    try:
        groups = []
        others = 0.0
        with tempfile.TemporaryDirectory(prefix="pumpseg-peers-") as folder:
            frames = write_frames(arguments.source, Path(folder) / "frames")
            if arguments.instances is not None:
                segmenter = Segmenter(find_model(arguments.models[0]), provider="cpu")
                frames = only_showing(arguments.instances, frames, segmenter, Path(folder) / "showing")
            for threads in arguments.threads:
                rows = contenders(
                    arguments.models, arguments.peers, arguments.peer_python, arguments.sides, threads, frames
                )
                others = max(others, measure(rows, arguments.frames))
                groups.append(rows)
        section = table(groups, frames, arguments.source, arguments.peer_versions, others)
        write_text(arguments.readme, insert(arguments.readme.read_text(encoding="utf-8"), section, "peers"))
    except PumpsegError as error:
        say(f"error: {error}")
        return 2
    print(section)
    return 0


if __name__ == "__main__":
    sys.exit(main())
