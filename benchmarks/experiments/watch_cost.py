"""What watching costs over bare inference: frames a second of several cameras, and the processor's time for each frame.

    python benchmarks/experiments/watch_cost.py                  # four 640x480 cameras, fast-int8, two cores
    python benchmarks/experiments/watch_cost.py --cameras 2 --seconds 30 --rounds 5

Rounds of bare inference (decoding, fair turns, the model) and of a whole watch (also tracking, a zone, a line, rules,
state, page and metrics, with nobody looking) alternate. Compared is the processor's time, which other programs change
less than the frame rate: for each frame, that of the threads that take the results, by how much it is more than in bare
inference, as a share of all that bare inference takes. Linux only. Exits with 1 if watching costs 5% or more.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import clock_gettime, perf_counter, process_time, pthread_getcpuclockid

from pumpseg.cli.arguments import count, positive
from pumpseg.cli.command import CommandParser, run_command
from pumpseg.inference.threads import plan_turns
from pumpseg.video import stream
from pumpseg.video.turns import Turns
from pumpseg.watch.cameras import open_camera
from pumpseg.watch.config import Config, parse_config
from pumpseg.watch.run import Watch, open_segmenter
from pumpseg.watch.watched_source import WatchedSource

LIMIT = 0.05
INFERENCE = ("pumpseg-camera", "pumpseg-feed", "pumpseg-infer")
SETTLE_SECONDS = 12.0
"""The first events of a camera load the font, once for each thread."""

CAMERA = """
[[camera]]
name = "camera-{number}"
source = "{source}"
[[camera.zone]]
name = "front-{number}"
polygon = [[0.1, 0.4], [0.9, 0.4], [0.9, 0.95], [0.1, 0.95]]
[[camera.line]]
name = "middle-{number}"
points = [[0.5, 0.0], [0.5, 1.0]]
[[rule]]
name = "crowd-{number}"
when = "count(front-{number}) >= 3 for 5 s"
[[rule]]
name = "passed-{number}"
when = "crossed(middle-{number})"
cooldown = 60.0
"""
WATCH = """
[sinks.jsonl]
path = "events.jsonl"
[page]
address = "127.0.0.1:0"
[health]
address = "127.0.0.1:0"
"""


@dataclass(frozen=True)
class Round:
    """fps: of each camera. cpu_ms: of the process for each frame; own_ms: of these, in threads that take results."""

    fps: tuple[float, ...]
    cpu_ms: float
    own_ms: float


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cameras", type=count, default=4)
    parser.add_argument("--source", default="demo", help="a video that every camera plays")
    parser.add_argument("--model", default="fast-int8")
    parser.add_argument("--threads", type=count, default=2, help="cores for inference")
    parser.add_argument("--seconds", type=positive, default=20.0, help="of each round")
    parser.add_argument("--rounds", type=count, default=3)
    arguments = parser.parse_args(argv)
    return run_command(parser.prog, lambda: measure(arguments))


def measure(arguments: argparse.Namespace) -> int:
    bare, watched = [], []
    with tempfile.TemporaryDirectory() as folder:
        model = f'[model]\nfile = "{arguments.model}"\nthreads = {arguments.threads}\n'
        cameras = "".join(CAMERA.format(number=n + 1, source=arguments.source) for n in range(arguments.cameras))
        config = parse_config(model + cameras + WATCH, Path(folder) / "cameras.toml", {})
        for number in range(arguments.rounds):
            bare.append(measure_bare(config, arguments.seconds))
            print(f"round {number + 1}, bare:    {described(bare[-1])}", flush=True)
            watched.append(measure_watch(config, arguments.seconds))
            print(f"round {number + 1}, watched: {described(watched[-1])}", flush=True)
    costs = [(after.own_ms - before.own_ms) / before.cpu_ms for before, after in zip(bare, watched, strict=True)]
    cost = statistics.median(costs)
    print(f"watching costs {cost:.1%} of bare inference (rounds: {', '.join(f'{one:.1%}' for one in costs)})")
    return int(cost >= LIMIT)


def described(one: Round) -> str:
    fps = " ".join(f"{fps:5.2f}" for fps in one.fps)
    return f"{fps} fps, {one.cpu_ms:.1f} ms of a core for each frame, {one.own_ms:.2f} of them with the results"


def measure_bare(config: Config, seconds: float) -> Round:
    """Decoding and inference in fair turns, and nothing else."""
    plan = plan_turns(config.model.threads, len(config.camera))
    shared, stop = Turns(plan.workers), threading.Event()
    counts = [0] * len(config.camera)
    with open_segmenter(config, plan.threads) as segmenter:

        def run(number: int) -> None:
            source = WatchedSource(open_camera(config.camera[number]), shared, first_time=perf_counter())
            with closing(stream(source, segmenter.infer, stop=stop)) as results:
                for _ in results:
                    counts[number] += 1

        workers = [threading.Thread(target=run, args=(number,)) for number in range(len(counts))]
        for worker in workers:
            worker.start()
        measured = between(lambda: tuple(counts), stop, seconds)
        for worker in workers:
            worker.join()
    return measured


def measure_watch(config: Config, seconds: float) -> Round:
    stop, found = threading.Event(), []
    with Watch(config) as watch:

        def frames() -> tuple[int, ...]:
            return tuple(camera.meter.figures().frames for camera in watch.cameras)

        meter = threading.Thread(target=lambda: found.append(between(frames, stop, seconds)))
        meter.start()
        watch.run(stop)
        meter.join()
    return found[0]


def between(counts, stop: threading.Event, seconds: float) -> Round:  # type: ignore[no-untyped-def]
    """The frames of some seconds, after all cameras have settled; sets `stop` then."""
    while min(counts()) < 3:
        stop.wait(0.1)
    stop.wait(SETTLE_SECONDS)
    before, start, cpu, own = counts(), perf_counter(), process_time(), own_seconds()
    stop.wait(seconds)
    after, took, cpu, own = counts(), perf_counter() - start, process_time() - cpu, own_seconds() - own
    stop.set()
    done = [now - then for then, now in zip(before, after, strict=True)]
    return Round(tuple(frames / took for frames in done), 1000 * cpu / sum(done), 1000 * own / sum(done))


def own_seconds() -> float:
    """The processor's time, so far, of all threads but those that decode and infer."""
    own = [thread for thread in threading.enumerate() if not thread.name.startswith(INFERENCE)]
    return sum(clock_gettime(pthread_getcpuclockid(thread.ident)) for thread in own if thread.ident)


if __name__ == "__main__":
    sys.exit(main())
