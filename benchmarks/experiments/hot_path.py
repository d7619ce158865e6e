"""Where the time of a frame goes in `Segmenter`: pre-processing, session, post-processing, pasting of masks.

    python benchmarks/experiments/hot_path.py  # the shipped files, 640x480 and 1920x1080, one thread
    python benchmarks/experiments/hot_path.py mine-int8.onnx --rounds 40

Frames are those of the demo clip in which the first model finds `--instances` (3), others covered by grey, scaled to
each size; "none" is a grey one. All models and sizes take turns in rounds, and what is printed are medians. "outside"
is the share of the time that is not the session's: the letterbox, sorting out what was found, and pasting the masks
into the frame. The trunk is what every frame costs; a frame that shows nothing should cost hardly more.
"""

from __future__ import annotations

import argparse
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

from pumpseg import Segmenter
from pumpseg.cli.arguments import count
from pumpseg.cli.command import run_command
from pumpseg.errors import PumpsegError
from pumpseg.inference.model_file import DEFAULT_MODEL, find_model
from pumpseg.inference.providers import open_session
from pumpseg.video.sources.open import open_source
from pumpseg_bench import machine
from pumpseg_bench.frames import showing

SIZES = ((640, 480), (1920, 1080))
STEPS = ("pre", "session", "post", "paste")


def main(argv: Sequence[str] | None = None) -> int:
    return run_command("hot_path", lambda: measure(argv))


def measure(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names or files (default: both shipped precisions)")
    parser.add_argument("--provider", default="cpu", help="default cpu")
    parser.add_argument("--threads", type=count, default=1, help="of the session and of OpenCV (default 1)")
    parser.add_argument("--instances", type=count, default=3, help="in every frame (default 3)")
    parser.add_argument("--rounds", type=count, default=20, help="default 20")
    arguments = parser.parse_args(argv)
    cv2.setNumThreads(arguments.threads)
    paths = [find_model(name) for name in arguments.models or shipped_precisions()]
    segmenters = [Segmenter(path, provider=arguments.provider, threads=arguments.threads) for path in paths]
    views = views_of(segmenters[0], arguments.instances)
    if not views:
        raise PumpsegError(f"no frame of the demo shows {arguments.instances} instances or more")
    cases = [(f"{width}x{height}", [cv2.resize(view, (width, height)) for view in views]) for width, height in SIZES]
    cases.append(("none, 640x480", [np.full((480, 640, 3), 127, np.uint8)]))

    rows: dict[tuple[Path, str], list[tuple[float, ...]]] = {(p, name): [] for p in paths for name, _ in cases}
    trunks: dict[Path, list[float]] = {path: [] for path in paths}
    found: dict[tuple[Path, str], list[int]] = {key: [] for key in rows}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        runs = [trunk_runner(path, arguments, folder) for path in paths]
        for number in range(arguments.rounds + 1):
            for path, segmenter, run_trunk in zip(paths, segmenters, runs, strict=True):
                for name, frames in cases:
                    frame = frames[number % len(frames)]
                    segmenter(frame)  # what ran before has emptied the caches
                    times, amount = time_frame(segmenter, frame)
                    if number:  # the first round warms up
                        rows[path, name].append(times)
                        found[path, name].append(amount)
                run_trunk()
                start = perf_counter()
                run_trunk()
                if number:
                    trunks[path].append(1000 * (perf_counter() - start))
    here = machine.describe()
    print(f"{here.processor}, {here.cores} cores, {arguments.provider}, threads: {arguments.threads}, milliseconds")
    print(f"{'model':24}{'frame':15}{'found':>6}" + "".join(f"{step:>9}" for step in (*STEPS, "total", "outside")))
    for (path, name), times in rows.items():
        steps = np.median(np.array(times), axis=0)
        cells = "".join(f"{value:9.2f}" for value in (*steps, steps.sum()))
        print(f"{path.stem:24}{name:15}{np.mean(found[path, name]):6.1f}{cells}{1 - steps[1] / steps.sum():9.1%}")
    for path in paths:
        print(f"{path.stem:24}{'trunk alone':15}{'':6}{'':9}{np.median(trunks[path]):9.2f}")
    return 0


def shipped_precisions() -> list[str]:
    """The default model in float32, and in int8 where this installation has it."""
    int8 = f"{DEFAULT_MODEL}-int8"
    return [DEFAULT_MODEL, int8] if find_model().with_stem(int8).is_file() else [DEFAULT_MODEL]


def views_of(segmenter: Segmenter, instances: int) -> list[np.ndarray]:
    """Frames of the demo clip, at most 10, in which so many instances are found."""
    with contextlib.closing(open_source("demo")) as source:
        return list(islice(showing(instances, (frame.image for frame in source), segmenter), 10))


def time_frame(segmenter: Segmenter, frame: np.ndarray) -> tuple[tuple[float, ...], int]:
    """Milliseconds of every step of one frame, and how many instances were found."""
    instances, timings = segmenter.timed(frame)
    start = perf_counter()
    _ = instances.crop_masks
    paste = perf_counter() - start
    return tuple(1000 * seconds for seconds in (timings.pre, timings.session, timings.post, paste)), len(instances)


def trunk_runner(path: Path, arguments: argparse.Namespace, folder: Path) -> Callable[[], object]:
    """A function that runs a model's trunk alone on a grey image."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    inside = {name for node in model.graph.node if node.name.startswith("trunk/") for name in node.output}
    outside = [node for node in model.graph.node if not node.name.startswith("trunk/")]
    given = sorted({name for node in outside for name in node.input if name in inside})
    part = onnx.utils.Extractor(model).extract_model(["image"], given)
    onnx.save(part, folder / f"{path.stem}.onnx")
    session = open_session(folder / f"{path.stem}.onnx", arguments.provider, threads=arguments.threads)
    image = np.full(session.get_inputs()[0].shape, 127, np.uint8)
    return lambda: session.run(None, {"image": image})


if __name__ == "__main__":
    sys.exit(main())
