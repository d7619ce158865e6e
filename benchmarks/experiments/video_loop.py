"""Compares `pumpseg-video FILE --save` with the bare model on the same frames, and shows where the time goes.

    python benchmarks/experiments/video_loop.py  # the default model and the clip that comes with the package
    python benchmarks/experiments/video_loop.py clip.mp4 --model mine.onnx --threads 2 --rounds 5

Bare is `session.run` of ONNX Runtime on the same frames, letterboxed beforehand: `--threads` threads on one frame
after another, which is the usual way, and for comparison one thread each on as many frames at once. The loop is the
command as a user runs it, in a process of its own. Both take turns, so that a machine that slows down slows down both;
each figure is the best of the rounds, and the ratio that of the best. CPU time, which other programs disturb less, is
printed too; starting the command does not count.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

from pumpseg.cli.arguments import count, path
from pumpseg.cli.command import CommandParser, run_command
from pumpseg.errors import require
from pumpseg.inference.model import Model
from pumpseg.inference.model_file import choose_model
from pumpseg.video import VideoSource
from pumpseg.video.sources.open import DEMO_CLIP


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", nargs="?", type=path, default=DEMO_CLIP)
    parser.add_argument("--model")
    parser.add_argument("--threads", type=count, default=2, help="in all, of either side")
    parser.add_argument("--rounds", type=count, default=3)
    parser.add_argument("--repeat", type=count, default=4, help="how often the clip is repeated in one run")
    arguments = parser.parse_args(argv)
    return run_command(parser.prog, lambda: measure(arguments))


def measure(arguments: argparse.Namespace) -> None:
    file, _ = choose_model(arguments.model, "cpu")
    threads = arguments.threads
    ways = {f"{threads} threads on a frame": (threads, 1), f"{threads} frames at once, a thread each": (1, threads)}
    bare: dict[str, list[Speed]] = {name: [] for name in ways}
    loops = []
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / f"clip{arguments.clip.suffix}"
        repeat_clip(arguments.clip, clip, arguments.repeat)
        images = letterboxed(clip, file)
        command = loop_command(clip, file, threads, Path(folder))
        starting = run_loop([*command, "--limit", "1"], 0.0)["cpu_ms"] / 1000
        for _ in range(arguments.rounds):
            for name, way in ways.items():
                bare[name].append(bare_speed(file, images, *way))
            loops.append(run_loop(command, starting))

    print(f"{file.name}, {len(images)} frames of {arguments.clip.name}")
    print(f"best of {arguments.rounds} rounds; all of them in brackets")
    best = max(loops, key=lambda stats: stats["fps"])
    for name, speeds in bare.items():
        print_speed(f"bare session.run, {name}", speeds)
    print_speed("pumpseg-video --save", [Speed(stats["fps"], stats["cpu_ms"]) for stats in loops])
    for name, speeds in bare.items():
        print(f"ratio to {name}: {best['fps'] / max(speed.fps for speed in speeds):.3f}")
    print(f"a frame takes {1000 / best['fps']:.1f} ms; the stages, which overlap:")
    for name, times in best["stages"].items():
        print(f"  {name:10} {times['mean']:6.2f} ms, busy {times['busy']:4.0%} of the time")


def print_speed(name: str, speeds: Sequence[Speed]) -> None:
    best, rounds = max(speeds, key=lambda speed: speed.fps), ", ".join(f"{speed.fps:.1f}" for speed in speeds)
    print(f"{name}: {best.fps:.1f} fps [{rounds}], {best.cpu_ms:.1f} ms of CPU time a frame")


def repeat_clip(source: Path, target: Path, times: int) -> None:
    """The video packets of a clip, several times over, without decoding them."""
    av = require("av", extra="video")
    with av.open(str(target), "w") as output:
        stream, start = None, 0
        for _ in range(times):
            with av.open(str(source)) as container:
                video = container.streams.video[0]
                stream = stream or output.add_stream_from_template(video)
                step = max(1, round(1 / (video.average_rate or Fraction(25)) / video.time_base))
                end = start
                for packet in container.demux(video):
                    if packet.size:
                        packet.pts, packet.dts = packet.pts + start, packet.dts + start
                        end = max(end, packet.pts + step)
                        packet.stream = stream
                        output.mux(packet)
                start = end


def letterboxed(clip: Path, model: Path) -> list[np.ndarray]:
    """Model inputs, uint8 (1, H, W, 3) RGB, of every frame."""
    opened = Model.open(model, "cpu", threads=1)
    return [opened.prepare(frame.image)[0].copy() for frame in VideoSource(clip)]


@dataclass(frozen=True)
class Speed:
    """cpu_ms: CPU milliseconds of a frame, all threads together."""

    fps: float
    cpu_ms: float


def bare_speed(model: Path, images: Sequence[np.ndarray], threads: int, at_once: int) -> Speed:
    """Speed of session.run alone, with ONNX Runtime's default way of waiting for work."""
    opened = Model.open(model, "cpu", threads=threads)

    def run(image: np.ndarray) -> None:
        opened.run(image, opened.info.recommended_threshold)

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(run, images[:8]))
        start, cpu = perf_counter(), process_time()
        list(pool.map(run, images))
        return Speed(len(images) / (perf_counter() - start), 1000 * (process_time() - cpu) / len(images))


def loop_command(clip: Path, model: Path, threads: int, folder: Path) -> list[str]:
    command = [sys.executable, "-m", "pumpseg.cli.video", str(clip), "--save", str(folder / "out.mp4"), "--no-show"]
    command += ["--model", str(model), "--provider", "cpu", "--threads", str(threads)]
    return [*command, "--stats", str(folder / "stats.json")]


def run_loop(command: Sequence[str], starting: float) -> dict:
    """The statistics of one run of the command, and the CPU time of a frame ("cpu_ms").

    starting: CPU seconds that are not the loop's.
    """
    before = children_seconds()
    subprocess.run(command, check=True, capture_output=True)
    result = json.loads(Path(command[command.index("--stats") + 1]).read_text(encoding="utf-8"))
    result["cpu_ms"] = 1000 * (children_seconds() - before - starting) / result["frames"]
    return result


def children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
