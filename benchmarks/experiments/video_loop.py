"""How much of the bare model's speed is left in `pumpseg-video FILE --save`, and what the rest is spent on.

    python benchmarks/experiments/video_loop.py  # the default model and the clip that comes with the package
    python benchmarks/experiments/video_loop.py clip.mp4 --model mine.onnx --threads 2 --rounds 5

Bare is `session.run` of ONNX Runtime on the same frames, letterboxed beforehand: `--threads` threads on one frame
after another, which is what people call, and for comparison one thread each on as many frames at once. The loop is
the command as a user runs it, in a process of its own, its `--stats` read afterwards. Both take turns, so that a
machine that slows down slows down both; each figure is the best of the rounds, and the ratio that of the best.
Beside the clock the processor's time is told, which other programs disturb less; starting the command is left out.
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

from pumpseg.cli.command import run_command
from pumpseg.inference.model import Model
from pumpseg.inference.model_file import choose_model
from pumpseg.video import VideoSource
from pumpseg.video.sources.open import DEMO_CLIP
from pumpseg.video.sources.video_file import import_av


def main(argv: Sequence[str] | None = None) -> int:
    return run_command("video_loop", lambda: measure(argv))


def measure(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(description="fps of pumpseg-video FILE --save against bare session.run")
    parser.add_argument("clip", nargs="?", type=Path, default=DEMO_CLIP)
    parser.add_argument("--model")
    parser.add_argument("--threads", type=int, default=2, help="in all, of either side (default 2)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=4, help="how often the clip is repeated in one run (default 4)")
    arguments = parser.parse_args(argv)

    path, _ = choose_model(arguments.model, "cpu")
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / f"clip{arguments.clip.suffix}"
        repeat_clip(arguments.clip, clip, arguments.repeat)
        images = letterboxed(clip, path)
        bare: dict[str, list[Speed]] = {}
        loops = []
        command = loop_command(clip, path, arguments.threads, Path(folder))
        starting = run_loop([*command, "--limit", "1"], 0.0)["cpu_ms"] / 1000
        for _ in range(arguments.rounds):
            for name, threads, at_once in (
                (f"{arguments.threads} threads on a frame", arguments.threads, 1),
                (f"{arguments.threads} frames at once, a thread each", 1, arguments.threads),
            ):
                bare.setdefault(name, []).append(bare_speed(path, images, threads, at_once))
            loops.append(run_loop(command, starting))

    print(f"{path.name}, {len(images)} frames of {arguments.clip.name}")
    print(f"best of {arguments.rounds} rounds; all of them in brackets")
    fps = [stats["fps"] for stats in loops]
    best = max(loops, key=lambda stats: stats["fps"])
    for name, rounds in bare.items():
        fastest = max(rounds, key=lambda speed: speed.fps)
        print(
            f"bare session.run, {name}: {fastest.fps:.1f} fps {rounded([speed.fps for speed in rounds])}, "
            f"{fastest.cpu_ms:.1f} ms of the processor a frame"
        )
    print(
        f"pumpseg-video --save: {best['fps']:.1f} fps {rounded(fps)}, {best['cpu_ms']:.1f} ms of the processor a frame"
    )
    for name, rounds in bare.items():
        print(f"ratio to {name}: {best['fps'] / max(speed.fps for speed in rounds):.3f}")
    print(f"a frame takes {1000 / best['fps']:.1f} ms of the clock; the stages, which overlap:")
    for name, times in best["stages"].items():
        print(f"  {name:10} {times['mean']:6.2f} ms, at work {times['busy']:4.0%} of the time")
    return 0


def repeat_clip(source: Path, target: Path, times: int) -> None:
    """The video packets of a clip, several times over, without decoding them."""
    av = import_av()
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
    """cpu_ms: milliseconds of all threads together that a frame takes."""

    fps: float
    cpu_ms: float


def bare_speed(model: Path, images: Sequence[np.ndarray], threads: int, at_once: int) -> Speed:
    """Speed of session.run alone, with ONNX Runtime's own way of waiting for work."""
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
    """The statistics of one run of the command, and the processor's time for a frame ("cpu_ms").

    starting: seconds of the processor that are not the loop's.
    """
    before = children_seconds()
    subprocess.run(command, check=True, capture_output=True)
    result = json.loads(Path(command[command.index("--stats") + 1]).read_text(encoding="utf-8"))
    result["cpu_ms"] = 1000 * (children_seconds() - before - starting) / result["frames"]
    return result


def children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def rounded(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:.1f}" for value in values) + "]"


if __name__ == "__main__":
    sys.exit(main())
