"""Measures pumpseg and its peers in one run, in rounds, and writes the figures as JSON and as tables in the README.

Runs in pumpseg's environment, with each peer in its own; run.py makes them and calls this.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from peer_tables import insert, ratio_interval, section_of

from pumpseg.atomic_file import write_json, write_text
from pumpseg.errors import PumpsegError
from pumpseg.inference.model_file import find_model
from pumpseg.segmenter import Segmenter
from pumpseg_bench import machine
from pumpseg_bench.frames import FrameFile, showing, write_frames
from pumpseg_bench.latency import median_interval
from pumpseg_bench.worker import Setup
from pumpseg_bench.worker_process import WORKER, WorkerError, WorkerProcess

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
PEER_WORKER = HERE / "peer_worker.py"
ONNX_RUNTIME, OPENVINO = "ONNX Runtime", "OpenVINO"
ROUNDS = 10
WARMUP_FRAMES = 3


@dataclass
class Contender:
    """A row of a table; `command` and `argument` start its worker. Milliseconds by round.

    row: its number in a worker that several rows share. failure: what ended it early.
    """

    name: str
    side: str
    threads: int
    command: Sequence[str]
    argument: str
    precision: str = ""
    engine: str = ""
    row: int | None = None
    failure: str = ""
    latency: list[list[float]] = field(default_factory=list)
    session: list[list[float]] = field(default_factory=list)
    instances: int = 0

    def measure(self, worker: WorkerProcess, count: int) -> None:
        which = {} if self.row is None else {"row": self.row}
        worker.ask("run", count=1, **which)
        answer = worker.ask("run", count=count, **which)
        self.instances += answer["instances"]
        steps = answer.get("steps", answer)
        # Peers give finished masks, so pumpseg's are pasted too.
        masks = steps.get("masks", [0.0] * count)
        self.latency.append([latency + pasting for latency, pasting in zip(steps["latency"], masks, strict=True)])
        self.session.append(steps["session"])


@dataclass(frozen=True)
class Peer:
    """A peer's package, the interpreter that has it, and the input sides of its networks."""

    name: str
    python: str
    sides: tuple[int, ...]
    versions: str

    @staticmethod
    def parse(text: str) -> Peer:
        """From the JSON that run.py passes."""
        values = json.loads(text)
        return Peer(values["name"], values["python"], tuple(values["sides"]), values["versions"])


def export(peers: Sequence[Peer], frames: FrameFile, folder: Path) -> None:
    """Make the peers' files that are missing, each in its own environment."""
    description = json.dumps(asdict(frames), default=str)
    for peer in peers:
        say(f"files of {peer.name}")
        target = folder / peer.name
        target.mkdir(parents=True, exist_ok=True)
        command = [peer.python, str(PEER_WORKER), "export", peer.name, description, str(target), *map(str, peer.sides)]
        subprocess.run(command, check=True, stdout=sys.stderr)


def contenders(
    models: Sequence[str], peers: Sequence[Peer], folder: Path, threads: int, frames: FrameFile
) -> list[Contender]:
    """pumpseg's models, then the files of the peers, each on ONNX Runtime and on OpenVINO."""
    rows = []
    for model in models:
        path = find_model(model)
        info = Segmenter(path, provider="cpu").info
        for provider, engine in (("cpu", ONNX_RUNTIME), ("openvino", OPENVINO)):
            setup = Setup(str(path), provider, threads, 1, frames)
            row = Contender(f"pumpseg {path.stem}", str(info.input_size[1]), threads, WORKER, setup.to_json())
            row.precision, row.engine = info.precision, engine
            rows.append(row)
    for peer in peers:
        files = peer_files(folder / peer.name, peer.sides)
        argument = {"peer": peer.name, "threads": threads, "frames": asdict(frames), "rows": files}
        text = json.dumps(argument, default=str)
        for number, file in enumerate(files):
            command = (peer.python, str(PEER_WORKER))
            row = Contender(file["model"], str(file["side"]), threads, command, text, row=number)
            row.precision, row.engine = file["precision"], OPENVINO if file["openvino"] else ONNX_RUNTIME
            rows.append(row)
    return rows


def peer_files(folder: Path, sides: Sequence[int]) -> list[dict[str, Any]]:
    """What a peer's worker opens, as `PeerWorker` takes it: float32 and int8 on each runtime, of each side."""
    files = []
    for side in sides:
        for source in sorted(folder.glob(f"*-{side}.onnx")):
            int8, ir = (source.with_name(f"{source.stem}-int8.{suffix}") for suffix in ("onnx", "xml"))
            same = {"model": source.stem.removesuffix(f"-{side}"), "side": side}
            files += [
                {**same, "precision": precision, "onnx": str(onnx), "openvino": openvino}
                for onnx, openvino, precision in (
                    (source, None, "float32"),
                    (source, str(source), "float32"),
                    (int8, None, "int8"),
                    (source, str(ir), "int8"),
                )
            ]
    return files


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


def measure(rows: Sequence[Contender], frames: int, rounds: int = ROUNDS) -> float:
    """Start all workers and let the rows take turns. Returns the cores that other processes kept busy.

    A peer's row that fails ends with that as its `failure`; one of pumpseg's raises WorkerError.
    """
    turns = random.Random(0)
    workers: dict[tuple[Sequence[str], str], WorkerProcess] = {}

    def attempt(row: Contender, step: Callable[[], Any]) -> None:
        try:
            step()
        except WorkerError as error:
            if row.row is None:
                raise
            row.failure = str(error)
            say(f"{row.name} {row.side} {row.precision} {row.engine}: {error}")

    def start(row: Contender) -> None:
        key = row.command, row.argument
        if key not in workers:
            workers[key] = WorkerProcess(row.argument, row.command)
            workers[key].opened()
        workers[key].ask("run", count=WARMUP_FRAMES, **({} if row.row is None else {"row": row.row}))

    try:
        for row in rows:
            say(f"starting {row.name} {row.side} {row.precision} {row.engine}, threads: {row.threads}")
            attempt(row, partial(start, row))
        others = machine.ExternalLoadMeter(list(workers.values()))
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            for row in turns.sample(rows, len(rows)):
                if not row.failure:
                    worker = workers[row.command, row.argument]
                    attempt(row, partial(row.measure, worker, max(1, frames // rounds)))
        return others.cores()
    finally:
        for worker in workers.values():
            worker.close()


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


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def result(rows: Sequence[Contender], frames: FrameFile, arguments: argparse.Namespace, others: float) -> dict:
    """The whole run as JSON values; tables.py makes the tables of it."""
    return {
        "created": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": asdict(machine.describe()),
        "other_cores": others,
        "peers": [peer.versions for peer in arguments.peer],
        "source": arguments.source,
        "instances": arguments.instances,
        "frames": {"count": frames.count, "width": frames.width, "height": frames.height},
        "rows": [
            {
                "name": row.name,
                "side": int(row.side),
                "threads": row.threads,
                "precision": row.precision,
                "engine": row.engine,
                "latency": row.latency,
                "session": row.session,
                "instances": row.instances / max(1, sum(map(len, row.latency))),
                "failure": row.failure,
            }
            for row in rows
        ],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", type=Peer.parse, action="append", required=True, help="JSON of Peer")
    parser.add_argument("--folder", type=Path, required=True, help="of the peers' files")
    parser.add_argument("--threads", type=int, nargs="+", required=True)
    parser.add_argument("--frames", type=int, required=True)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--source", required=True)
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--instances", type=int)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--readme", type=Path)
    parser.add_argument("--prepare", action="store_true")
    arguments = parser.parse_args()
    try:
        rows: list[Contender] = []
        others = 0.0
        with tempfile.TemporaryDirectory(prefix="pumpseg-peers-") as folder:
            frames = write_frames(arguments.source, Path(folder) / "frames")
            export(arguments.peer, frames, arguments.folder)
            if arguments.prepare:
                return 0
            if arguments.instances is not None:
                segmenter = Segmenter(find_model(arguments.models[0]), provider="cpu")
                frames = only_showing(arguments.instances, frames, segmenter, Path(folder) / "showing")
            for threads in arguments.threads:
                group = contenders(arguments.models, arguments.peer, arguments.folder, threads, frames)
                others = max(others, measure(group, arguments.frames, arguments.rounds))
                rows += group
        values = result(rows, frames, arguments, others)
        write_json(arguments.json, values)
        section = section_of(values)
        if arguments.readme is not None:
            write_text(arguments.readme, insert(arguments.readme.read_text(encoding="utf-8"), section, "peers"))
    except PumpsegError as error:
        say(f"error: {error}")
        return 2
    except subprocess.CalledProcessError as error:
        say(f"error: {error.cmd[1]} ended with code {error.returncode}")
        return 2
    print(section)
    return 0


if __name__ == "__main__":
    sys.exit(main())
