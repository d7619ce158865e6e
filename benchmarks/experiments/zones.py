"""Measures what counting in zones and lines adds to a frame, and compares it with inference.

    python benchmarks/experiments/zones.py                      # 50 objects in a frame of 1920x1080
    python benchmarks/experiments/zones.py --objects 10 --model accurate

CPU time of the thread that works, medians in milliseconds: other programs hardly disturb it. Inference is that of a
frame of the demo clip in one thread. "paste" is what the masks cost anyway as soon as they are drawn, tracked or
written.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from time import thread_time
from typing import TypeVar

import cv2
import numpy as np
from measuring import print_table

from pumpseg import Instances, Line, Segmenter, Zone, ZoneCounter, open_source
from pumpseg.cli.arguments import count, size
from pumpseg.cli.command import CommandParser, run_command

ZONES = [
    Zone("front", [0.1, 0.5, 0.9, 0.5, 0.95, 0.95, 0.05, 0.95]),
    Zone("all", [0, 0, 1, 0, 1, 1, 0, 1]),
    Zone("corner", [0.2, 0.1, 0.6, 0.1, 0.4, 0.4]),
    Zone("right", [0.5, 0.5, 0.9, 0.5, 0.9, 0.9]),
]
LINES = [Line("middle", [0.5, 0, 0.5, 1]), Line("across", [0, 0.5, 1, 0.5])]
CASES = {"1 zone, 1 line": [ZONES[0], LINES[0]], "4 zones, 2 lines": [*ZONES, *LINES]}

T = TypeVar("T")


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=count, default=50)
    parser.add_argument("--size", type=size, default=(1920, 1080), metavar="WxH")
    parser.add_argument("--frames", type=count, default=60)
    parser.add_argument("--model", default="fast")
    arguments = parser.parse_args(argv)

    def measure() -> None:
        cv2.setNumThreads(1)
        segmenter = Segmenter(arguments.model, provider="cpu", threads=1, allow_spinning=False)
        image = cv2.resize(next(iter(open_source("demo"))).image, arguments.size)
        inference = np.median([timed(lambda: segmenter(image))[1] for _ in range(12)][2:])
        rows = []
        for name, shapes in CASES.items():
            counter, pasting, counting = ZoneCounter(shapes), [], []
            for i in range(arguments.frames):
                instances = moving_discs(arguments.objects, arguments.size, i)
                pasting.append(timed(lambda: instances.areas)[1])  # noqa: B023
                counting.append(timed(lambda: counter.update(instances, i / 25))[1])  # noqa: B023
            added = np.median(counting)
            rows.append([name, *(f"{1000 * ms:.2f}" for ms in (added, np.median(pasting), inference))])
            rows[-1].append(f"{added / inference:.1%}")
        print_table(("counted", "zones", "paste", "inference", "zones / inference"), rows)

    return run_command(parser.prog, measure)


def moving_discs(number: int, frame_size: tuple[int, int], index: int) -> Instances:
    """Tracked discs of 7 to 24% of the frame's height, which move from frame to frame."""
    width, height = frame_size
    random = np.random.default_rng(0)
    sides = random.uniform(0.07, 0.24, (number, 2)) * height
    moved = random.uniform(-0.01, 0.01, (number, 2)) * height * index
    starts = random.uniform(0, 0.8, (number, 2)) * (width, height) + moved
    y, x = np.mgrid[:28, :28] - 13.5
    masks = np.repeat((x**2 + y**2 < 190).astype(np.float32)[None], number, axis=0)
    boxes = np.concatenate([starts, starts + sides], axis=1).astype(np.float32)
    scores, class_ids = np.full(number, 0.9, np.float32), np.zeros(number, np.int64)
    instances = Instances.in_frame(boxes, scores, class_ids, masks, (height, width), ["pumpkin"])
    return instances.with_track_ids(np.arange(1, len(instances) + 1))


def timed(action: Callable[[], T]) -> tuple[T, float]:
    """What an action returns, and the seconds that this thread computed for it."""
    start = thread_time()
    result = action()
    return result, thread_time() - start


if __name__ == "__main__":
    sys.exit(main())
