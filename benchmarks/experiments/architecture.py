"""Compares networks and inference settings of the edge profile, each changed by itself.

    python benchmarks/experiments/architecture.py parts  # time of the dense parts of other networks
    python benchmarks/experiments/architecture.py inference runs/p1 data/pumpkin  # AP and time with other settings

`parts` needs no weights: it times trunk, box head (32 RoIs) and mask head (3 RoIs) with random ones. `inference`
exports the run for every change of the steps between the parts, and measures mask AP on the data and the time of a
whole frame of the demo clip. One thread; all variants take turns in rounds, and the figures are medians.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import onnx
from measuring import in_turns, print_table, quiet_machine

from pumpseg import Segmenter
from pumpseg.cli.arguments import count, path
from pumpseg.cli.command import CommandParser, run_command
from pumpseg.inference.providers import open_session
from pumpseg.video.sources.open import open_source
from pumpseg_export.assemble import assemble
from pumpseg_export.dense import convert_dense
from pumpseg_export.measure import measure
from pumpseg_export.metadata import describe, write_model
from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.model.network import build_mask_rcnn
from pumpseg_train.model.profile import EDGE, Profile
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
    parser = CommandParser(description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(required=True)
    parts = kinds.add_parser("parts", help="time of the dense parts of other networks")
    parts.set_defaults(compare=compare_parts)
    inference = kinds.add_parser("inference", help="AP and time of a trained network with other settings")
    inference.set_defaults(compare=compare_inference)
    inference.add_argument("trained", type=path, metavar="RUN")
    inference.add_argument("data", type=path, metavar="DATA")
    inference.add_argument("--split", default="val")
    for kind in (parts, inference):
        kind.add_argument("--rounds", type=count, default=20)
    arguments = parser.parse_args(argv)
    cv2.setNumThreads(1)
    return run_command(parser.prog, lambda: arguments.compare(arguments))


def one_by_one(values: dict[str, tuple]) -> list[dict]:
    """No change, and every other value of every figure by itself."""
    return [{}, *({name: value} for name, others in values.items() for value in others)]


def name_of(change: dict, profile: Profile) -> str:
    """`proposals` 100 (300), or nothing."""
    return "".join(f"`{name}` {value} ({getattr(profile, name)})" for name, value in change.items()) or "nothing"


def compare_parts(arguments: argparse.Namespace) -> None:
    runs, changes = {}, one_by_one(PARTS)
    with tempfile.TemporaryDirectory() as folder:
        for number, change in enumerate(changes):
            profile = dataclasses.replace(EDGE, **change)
            shapes = {"trunk": (1, *profile.input_size, 3)}
            for part, pool in (("box_head", profile.box_pool), ("mask_head", profile.mask_pool)):
                shapes[part] = (ROIS[part], pool, pool, profile.fpn_channels)
            for part, network in build_mask_rcnn(profile, ("object",)).parts.items():
                file = Path(folder) / f"{part}.onnx"
                onnx.save(convert_dense(network, shapes[part]), file)
                session = open_session(file, "cpu", threads=1)
                place = session.get_inputs()[0]
                runs[number, part] = partial(session.run, None, {place.name: np.zeros(place.shape, np.float32)})
    with quiet_machine():
        times = in_turns(runs, arguments.rounds)
    print_table(
        ("changed", "trunk, ms", "box head, ms", "mask head, ms"),
        (
            [name_of(change, EDGE), *(f"{np.median(times[number, part]):.2f}" for part in ("trunk", *ROIS))]
            for number, change in enumerate(changes)
        ),
    )


def compare_inference(arguments: argparse.Namespace) -> None:
    trained, data = load_run(arguments.trained), read_dataset(arguments.data, arguments.split)
    with contextlib.closing(open_source("demo")) as source:
        frames = [frame.image for frame in source][::6]
    runs, metrics, changes = {}, [], one_by_one(INFERENCE)
    with tempfile.TemporaryDirectory() as folder:
        for number, change in enumerate(changes):
            profile = dataclasses.replace(trained.profile, **change)
            model = dataclasses.replace(trained, profile=profile)
            file = Path(folder) / f"{number}.onnx"
            write_model(assemble(model, profile.input_size), describe(model, profile.input_size), file)
            metrics.append(measure(file, data))
            segmenter, views = Segmenter(file, provider="cpu", threads=1), itertools.cycle(frames)
            runs[number] = lambda segmenter=segmenter, views=views: segmenter(next(views))
    with quiet_machine():
        times = in_turns(runs, arguments.rounds)
    rows = []
    for number, (change, metric) in enumerate(zip(changes, metrics, strict=True)):
        figures = (metric.mask.ap, metric.mask.ap50, metric.mask.ap75, metric.box.ap)
        cells = [*(f"{100 * figure:.1f}" for figure in figures), f"{np.median(times[number]):.1f}"]
        rows.append([name_of(change, trained.profile), *cells])
    print_table(("changed", "mask AP", "AP50", "AP75", "box AP", "frame, ms"), rows)


if __name__ == "__main__":
    sys.exit(main())
