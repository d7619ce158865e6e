"""Times the stages of a frame in `Segmenter`: letterbox, session, selecting the instances, pasting their masks.

    python benchmarks/experiments/hot_path.py  # the shipped files, 640x480 and 1920x1080, one thread
    python benchmarks/experiments/hot_path.py mine-int8.onnx --rounds 40

Frames are those of the demo clip in which the first model detects `--instances`, others covered by grey, scaled to each
size; "none" is a grey one. All models and sizes take turns in rounds; the figures are medians. "outside" is the share
of the time that is not the session's. The trunk is the fixed cost of a frame: a frame without instances should cost
little more.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
import onnx
from measuring import in_turns, print_table, quiet_machine

from pumpseg import Segmenter
from pumpseg.cli.arguments import count
from pumpseg.cli.command import CommandParser, run_command
from pumpseg.errors import PumpsegError
from pumpseg.inference.model_file import DEFAULT_MODEL, find_model
from pumpseg.inference.providers import open_session
from pumpseg.video.sources.open import open_source
from pumpseg_bench.frames import showing

SIZES = ((640, 480), (1920, 1080))
STAGES = ("pre", "session", "post", "paste")


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names or files (default: both shipped precisions)")
    parser.add_argument("--provider", default="cpu")
    parser.add_argument("--threads", type=count, default=1, help="of the session and of OpenCV")
    parser.add_argument("--instances", type=count, default=3, help="in every frame")
    parser.add_argument("--rounds", type=count, default=20)
    arguments = parser.parse_args(argv)

    def measure() -> None:
        cv2.setNumThreads(arguments.threads)
        paths = [find_model(name) for name in arguments.models or shipped_precisions()]
        segmenters = {path: Segmenter(path, provider=arguments.provider, threads=arguments.threads) for path in paths}
        views = views_of(segmenters[paths[0]], arguments.instances)
        cases = {f"{width}x{height}": [cv2.resize(view, (width, height)) for view in views] for width, height in SIZES}
        cases["none, 640x480"] = [np.full((480, 640, 3), 127, np.uint8)]
        stages = {
            (path, case): StageTimer(segmenters[path], frames) for path in paths for case, frames in cases.items()
        }
        with tempfile.TemporaryDirectory() as folder, quiet_machine():
            trunks = {path: trunk_of(path, arguments.provider, arguments.threads, Path(folder)) for path in paths}
            trunk_times = in_turns({**stages, **trunks}, arguments.rounds)
        print(f"{arguments.provider}, threads: {arguments.threads}, milliseconds\n")
        rows = [[path.stem, case, *stages[path, case].cells()] for path, case in stages]
        rows += [[path.stem, "trunk alone", "", "", f"{np.median(trunk_times[path]):.2f}"] for path in paths]
        print_table(("model", "frame", "instances", *STAGES, "total", "outside"), rows)

    return run_command(parser.prog, measure)


class StageTimer:
    """Times the stages of one frame after the other at every call, the first of which warms up."""

    def __init__(self, segmenter: Segmenter, frames: Sequence[np.ndarray]) -> None:
        self._segmenter, self._frames = segmenter, frames
        self._times: list[tuple[float, ...]] = []
        self._instances: list[int] = []

    def __call__(self) -> None:
        frame = self._frames[len(self._times) % len(self._frames)]
        self._segmenter(frame)  # what ran before has emptied the caches
        instances, timings = self._segmenter.timed(frame)
        start = perf_counter()
        _ = instances.crop_masks
        self._times.append((timings.pre, timings.session, timings.post, perf_counter() - start))
        self._instances.append(len(instances))

    def cells(self) -> list[str]:
        """Instances, medians of every stage and of all of them in ms, and the share that is not the session's."""
        medians = 1000 * np.median(np.array(self._times[1:]), axis=0)
        outside = 1 - medians[1] / medians.sum()
        return [
            f"{np.mean(self._instances[1:]):.1f}",
            *(f"{value:.2f}" for value in (*medians, medians.sum())),
            f"{outside:.1%}",
        ]


def shipped_precisions() -> list[str]:
    """The default model in float32, and in int8 where this installation has it."""
    int8 = f"{DEFAULT_MODEL}-int8"
    return [DEFAULT_MODEL, int8] if find_model().with_stem(int8).is_file() else [DEFAULT_MODEL]


def views_of(segmenter: Segmenter, instances: int) -> list[np.ndarray]:
    """Frames of the demo clip, at most 10, with so many instances. Raises PumpsegError if there are none."""
    with contextlib.closing(open_source("demo")) as source:
        views = list(islice(showing(instances, (frame.image for frame in source), segmenter), 10))
    if not views:
        raise PumpsegError(f"no frame of the demo shows {instances} instances or more")
    return views


def trunk_of(path: Path, provider: str, threads: int, folder: Path) -> Callable[[], object]:
    """A function that runs a model's trunk alone on a grey image."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    inside = {name for node in model.graph.node if node.name.startswith("trunk/") for name in node.output}
    outside = [node for node in model.graph.node if not node.name.startswith("trunk/")]
    given = sorted({name for node in outside for name in node.input if name in inside})
    onnx.save(onnx.utils.Extractor(model).extract_model(["image"], given), folder / f"{path.stem}.onnx")
    session = open_session(folder / f"{path.stem}.onnx", provider, threads=threads)
    image = np.full(session.get_inputs()[0].shape, 127, np.uint8)
    return lambda: session.run(None, {"image": image})


if __name__ == "__main__":
    sys.exit(main())
