"""What the figures of the edge profile cost and buy, each changed by itself.

    python benchmarks/experiments/architecture.py parts  # time of the dense parts of other networks
    python benchmarks/experiments/architecture.py inference runs/p1 data/pumpkin  # AP and time, run otherwise

`parts` needs no weights: it times trunk, box head (32 RoIs) and mask head (3 RoIs) with random ones. `inference`
exports the run anew for every change of what happens between the parts, and measures mask AP on the data and the whole
frame's time on the demo clip. One thread; all variants take turns in rounds, what is printed are medians. Tables in
Markdown for docs/performance.md.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
import onnx

from pumpseg import Segmenter
from pumpseg.cli.arguments import count
from pumpseg.cli.command import run_command
from pumpseg.inference.providers import open_session
from pumpseg.video.sources.open import open_source
from pumpseg_export.assemble import assemble
from pumpseg_export.dense import convert_dense
from pumpseg_export.export import describe
from pumpseg_export.metadata import write_model
from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.evaluation.metrics import evaluate
from pumpseg_train.model.network import build_mask_rcnn
from pumpseg_train.model.profile import EDGE
from pumpseg_train.training.run import load_run

ROIS = {"box_head": 32, "mask_head": 3}
PARTS = {
    "fpn_channels": (64, 128),
    "rpn_channels": (64,),
    "box_channels": (32, 96),
    "box_units": (512,),
    "mask_convs": (2, 3),
    "mask_channels": (32, 96),
    "input_size": ((320, 320), (512, 512)),
}
INFERENCE = {
    "input_size": ((320, 320), (448, 448), (512, 512), (640, 640)),
    "proposals": (50, 100, 600),
    "proposal_nms_threshold": (0.5, 0.6, 0.8),
    "nms_threshold": (0.4, 0.6),
    "roi_sampling_ratio": (2,),
    "roi_levels": (1,),
    "mask_margin": (0.0, 0.1),
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(required=True)
    parts = kinds.add_parser("parts", help="time of the dense parts of other networks")
    parts.set_defaults(run=compare_parts)
    inference = kinds.add_parser("inference", help="AP and time of a trained network, run otherwise")
    inference.set_defaults(run=compare_inference)
    inference.add_argument("trained", type=Path, metavar="RUN")
    inference.add_argument("data", type=Path, metavar="DATA")
    inference.add_argument("--split", default="val", help="default val")
    for kind in (parts, inference):
        kind.add_argument("--rounds", type=count, default=20, help="default 20")
    arguments = parser.parse_args(argv)
    cv2.setNumThreads(1)
    return run_command("architecture", lambda: arguments.run(arguments))


def one_by_one(values: dict[str, tuple]) -> list[dict]:
    """No change, and every other value of every figure by itself."""
    return [{}, *({name: value} for name, others in values.items() for value in others)]


def compare_parts(arguments: argparse.Namespace) -> None:
    sessions, changes = [], one_by_one(PARTS)
    with tempfile.TemporaryDirectory() as folder:
        for change in changes:
            profile = dataclasses.replace(EDGE, **change)
            model = build_mask_rcnn(profile, ("object",))
            shapes = {"trunk": (1, *profile.input_size, 3)}
            for part, pool in (("box_head", profile.box_pool), ("mask_head", profile.mask_pool)):
                shapes[part] = (ROIS[part], pool, pool, profile.fpn_channels)
            row = []
            for part, network in model.parts.items():
                path = Path(folder) / f"{part}.onnx"
                onnx.save(convert_dense(network, shapes[part]), path)
                session = open_session(path, "cpu", threads=1)
                place = session.get_inputs()[0]
                row.append((session, {place.name: np.zeros(place.shape, np.float32)}))
            sessions.append(row)
    times = np.empty((arguments.rounds + 1, len(changes), len(ROIS) + 1))
    for number in range(len(times)):
        for i, row in enumerate(sessions):
            for j, (session, model_inputs) in enumerate(row):
                start = perf_counter()
                session.run(None, model_inputs)
                times[number, i, j] = 1000 * (perf_counter() - start)
    print("| changed | trunk, ms | box head, ms | mask head, ms |\n|---|---|---|---|")
    for change, row in zip(changes, np.median(times[1:], axis=0), strict=True):  # the first round warms up
        print(f"| {told(change, EDGE)} | " + " | ".join(f"{value:.2f}" for value in row) + " |")


def compare_inference(arguments: argparse.Namespace) -> None:
    trained, dataset = load_run(arguments.trained), read_dataset(arguments.data, arguments.split)
    with contextlib.closing(open_source("demo")) as source:
        frames = [frame.image for frame in source][::6]
    segmenters, metrics, changes = [], [], one_by_one(INFERENCE)
    with tempfile.TemporaryDirectory() as folder:
        for number, change in enumerate(changes):
            profile = dataclasses.replace(trained.profile, **change)
            model = dataclasses.replace(trained, profile=profile)
            path = Path(folder) / f"{number}.onnx"
            write_model(assemble(model, profile.input_size), describe(model, profile.input_size, {}, "", ""), path)
            metrics.append(evaluate(dataset, Segmenter(path, provider="cpu", threshold=0.0)))
            segmenters.append(Segmenter(path, provider="cpu", threads=1))
    times = np.empty((arguments.rounds + 1, len(changes)))
    for number in range(len(times)):
        for i, segmenter in enumerate(segmenters):
            start = perf_counter()
            segmenter(frames[number % len(frames)])
            times[number, i] = 1000 * (perf_counter() - start)
    print("| changed | mask AP | AP50 | AP75 | box AP | frame, ms |\n|---|---|---|---|---|---|")
    for change, metric, taken in zip(changes, metrics, np.median(times[1:], axis=0), strict=True):
        figures = (metric.mask.ap, metric.mask.ap50, metric.mask.ap75, metric.box.ap)
        figures = " | ".join(f"{100 * figure:.1f}" for figure in figures)
        print(f"| {told(change, trained.profile)} | {figures} | {taken:.1f} |")


def told(change: dict, profile) -> str:
    """`proposals` 100 (300), or nothing changed."""
    if not change:
        return "nothing"
    ((name, value),) = change.items()
    return f"`{name}` {value} ({getattr(profile, name)})"


if __name__ == "__main__":
    sys.exit(main())
