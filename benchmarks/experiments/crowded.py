"""Times a frame by the number of instances in view, and shows which steps grow with it.

    python benchmarks/experiments/crowded.py DATA/val/images  # the shipped files, one thread
    python benchmarks/experiments/crowded.py photos/ mine.onnx mine-int8.onnx --rounds 10

Photos are scaled to fit into 640x480; each counts for as many instances as the first model finds in it. All figures are
processor time of one thread, which other programs disturb less than the clock: of each photo and model the least of the
rounds, in which the models take turns, and of photos with about as many instances the median. The steps are shares of
ONNX Runtime's profile of the same runs, times the session's processor time.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import thread_time
from typing import Any

import cv2
import numpy as np
from hot_path import shipped_precisions
from measuring import print_table, quiet_machine
from numpy.typing import NDArray

from pumpseg import Segmenter
from pumpseg.cli.arguments import count, path
from pumpseg.cli.command import CommandParser, run_command
from pumpseg.inference.model import Model
from pumpseg.inference.model_file import find_model
from pumpseg.video.sources.open import open_source

FRAME = (640, 480)
BINS = ((0, 1), (2, 4), (5, 9), (10, 19), (20, 39), (40, 69), (70, 100))
PARTS = {"trunk/": "trunk", "box_head/": "box head", "mask_head/": "mask head"}  # by a part of a node's name
# By the side of what is pooled.
ROIS = {7: "RoIAlign for boxes", 14: "RoIAlign for masks", 1: "RoIAlign of the verifier", 28: "masks resampled"}
NMS = "NMS"
STEPS = (*PARTS.values(), *ROIS.values(), NMS, "the rest")


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=path, help="a picture or a folder of them")
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names or files (default: both shipped precisions)")
    parser.add_argument("--rounds", type=count, default=5)
    arguments = parser.parse_args(argv)
    return run_command(parser.prog, lambda: measure(arguments.photos, arguments.models, arguments.rounds))


def measure(photos: Path, models: Sequence[str], rounds: int) -> None:
    cv2.setNumThreads(1)
    paths = [find_model(name) for name in models or shipped_precisions()]
    frames = [scaled(frame.image) for frame in open_source(photos)]
    segmenters = {file: Segmenter(file, provider="cpu", threads=1) for file in paths}
    bins = bins_of([len(segmenters[paths[0]](frame)) for frame in frames])
    whole, session = ({file: np.full(len(frames), np.inf) for file in paths} for _ in range(2))
    with quiet_machine():
        for _ in range(rounds):
            for number, frame in enumerate(frames):
                for file, segmenter in segmenters.items():
                    image, _ = segmenter.model.prepare(frame)
                    start = thread_time()
                    segmenter.model.run(image, segmenter.threshold)
                    ran = thread_time()
                    _ = segmenter(frame).crop_masks
                    session[file][number] = min(session[file][number], ran - start)
                    whole[file][number] = min(whole[file][number], thread_time() - ran)
        shares = {file: [shares_of(events) for events in profiles(file, frames)] for file in paths}
    print(f"{len(frames)} photos, one thread, milliseconds of processor time\n")
    rows = []
    for file in paths:
        medians = [1000 * np.median(whole[file][places]) for places in bins.values()]
        rows.append([file.stem, "whole frame", *(f"{median:.1f}" for median in medians)])
        rows.append([file.stem, "times the first", *(f"{median / medians[0]:.2f}" for median in medians)])
        steps = {step: np.array([share.get(step, 0.0) for share in shares[file]]) * session[file] for step in STEPS}
        steps["outside the session"] = whole[file] - session[file]
        for step, seconds in steps.items():
            rows.append([file.stem, step, *(f"{1000 * seconds[places].mean():.2f}" for places in bins.values())])
    columns = [f"{low} to {high}: {len(places)} photos" for (low, high), places in bins.items()]
    print_table(("model", "step", *columns), rows)


def scaled(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture (H, W, 3) as large as fits into a FRAME."""
    factor = min(FRAME[0] / image.shape[1], FRAME[1] / image.shape[0])
    return np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)


def bins_of(numbers: Sequence[int]) -> dict[tuple[int, int], list[int]]:
    """Which places in `numbers` fall into each of BINS, without bins that none falls into."""
    places = {(low, high): [i for i, number in enumerate(numbers) if low <= number <= high] for low, high in BINS}
    return {each: found for each, found in places.items() if found}


def profiles(file: Path, frames: Sequence[NDArray[np.uint8]]) -> list[list[dict[str, Any]]]:
    """The events of the kernels, in ONNX Runtime's profile, of a run of a model on each frame."""
    with tempfile.TemporaryDirectory() as folder:
        model = Model.open(file, "cpu", threads=1, profile=Path(folder) / "nodes")
        for frame in frames:
            model.run(model.prepare(frame)[0], model.info.recommended_threshold)
        events = json.loads(Path(model.session.end_profiling()).read_text(encoding="utf-8"))  # type: ignore[attr-defined]
    runs = sorted((event for event in events if event.get("name") == "model_run"), key=lambda event: event["ts"])
    kernels = [event for event in events if event.get("name", "").endswith("_kernel_time")]
    return [[each for each in kernels if 0 <= each["ts"] - run["ts"] <= run["dur"]] for run in runs]


def shares_of(events: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The share of each of STEPS in the time of the kernels of one run."""
    taken: dict[str, float] = defaultdict(float)
    for event in events:
        taken[step_of(event)] += event["dur"]
    whole = sum(taken.values())
    return {step: time / whole for step, time in taken.items()}


def step_of(event: Mapping[str, Any]) -> str:
    """Which of STEPS a kernel belongs to."""
    kind = event["args"]["op_name"]
    if kind == "RoiAlign":
        (shape,) = event["args"]["output_type_shape"][0].values()
        return ROIS.get(shape[-1], "the rest")
    if kind == "NonMaxSuppression":
        return NMS
    return next((step for part, step in PARTS.items() if part in event["name"]), "the rest")


if __name__ == "__main__":
    sys.exit(main())
