"""Checks that memory and open files stay flat over thousands of frames of the video loop.

    python benchmarks/experiments/soak.py  # 10,000 frames through file, model, drawing, H.264 and JSON lines
    python benchmarks/experiments/soak.py --frames 2000 --live  # from a source that drops frames, as cameras do

Prints the resident set and the open files every 500 frames, and exits with 1 if after frame 500 memory has grown by
5 MB or a file stayed open.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from time import perf_counter, sleep

import numpy as np

from pumpseg import Segmenter
from pumpseg.cli.arguments import count, whole
from pumpseg.cli.command import CommandParser, run_command
from pumpseg.video import Frame, Outputs, Source, VideoSource, VideoTiming, open_sinks, process
from pumpseg.video.sources.open import DEMO_CLIP

SETTLED = 500
LIMIT_MB = 5.0


class RepeatedFrames(Source):
    """Frames of a clip, repeated up to `length`; live ones have an arrival time and count drops, as a camera's do."""

    name = "soak"

    def __init__(self, images: Sequence[np.ndarray], length: int, live: bool) -> None:
        self._images = images
        self.length = length
        self.live = live
        self.timing = VideoTiming(Fraction(1, 1000), Fraction(25))

    def __iter__(self) -> Iterator[Frame]:
        for i in range(self.length or 0):
            # A copy, as from a decoder, so that an image kept by mistake shows.
            image = self._images[i % len(self._images)].copy()
            self.dropped += self.live
            yield Frame(image, self.name, i, i / 25, 40 * i, perf_counter() if self.live else None)


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", nargs="?", type=Path, default=DEMO_CLIP)
    parser.add_argument("--frames", type=whole(SETTLED + 1), default=10_000)
    parser.add_argument("--model")
    parser.add_argument("--width", type=count, default=160, help="of the frames")
    parser.add_argument("--live", action="store_true")
    arguments = parser.parse_args(argv)
    return run_command(parser.prog, lambda: measure(arguments))


def measure(arguments: argparse.Namespace) -> int:
    images = small_frames(arguments.clip, arguments.width)
    source = RepeatedFrames(images, arguments.frames, arguments.live)
    segmenter = Segmenter(arguments.model, provider="cpu", threads=1, allow_spinning=False)
    readings: dict[int, tuple[float, int]] = {}

    def read(done: int) -> None:
        if done % SETTLED == 0 or done == arguments.frames:
            # Garbage that waits for the collector does not count.
            gc.collect()
            readings[done] = (resident_mb(), open_files())
            print(f"frame {done:6}: {readings[done][0]:7.1f} MB, {readings[done][1]} open files", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        outputs = Outputs(save=Path(folder) / "out.mp4", json_lines=Path(folder) / "out.jsonl")
        with open_sinks(source, outputs, segmenter.class_names) as sinks:
            summary = process(source, segmenter.infer, sinks, workers=2, on_frame=read)
    sleep(0.1)
    grown = readings[arguments.frames][0] - readings[SETTLED][0]
    left_open = readings[arguments.frames][1] - readings[SETTLED][1]
    print(summary)
    print(f"from frame {SETTLED} to {arguments.frames}: {grown:+.1f} MB, {left_open:+} open files")
    return int(grown >= LIMIT_MB or left_open > 0)


def small_frames(clip: Path, width: int) -> list[np.ndarray]:
    """Every frame of a clip, uint8 BGR, scaled to a width in pixels."""
    import cv2

    frames = [frame.image for frame in VideoSource(clip)]
    height = round(width * frames[0].shape[0] / frames[0].shape[1])
    return [cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in frames]


def resident_mb() -> float:
    """The resident set of this process, as Linux reports it."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only


if __name__ == "__main__":
    sys.exit(main())
