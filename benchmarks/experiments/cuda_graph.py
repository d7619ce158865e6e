"""Milliseconds a frame on an NVIDIA GPU: the usual graph, and the static one with and without a CUDA graph.

    pumpseg-export RUN -o usual.onnx && pumpseg-export RUN --static -o static.onnx
    python benchmarks/experiments/cuda_graph.py usual.onnx static.onnx

The rows take turns in rounds on the frames of the demo clip; the figures are those of `Segmenter`, from frame to
instances. The number of RoIs that the usual graph's heads run on, `rois_multiple`, is 1 and 32. Every row's instances
are compared with those of the usual graph on the CPU. `--provider cpu` tries the script without a GPU.
"""

import argparse
import dataclasses
import json
import random
import sys
from pathlib import Path

import numpy as np

from pumpseg.errors import PumpsegError
from pumpseg.inference.providers import PROVIDERS
from pumpseg.segmenter import Segmenter
from pumpseg.video.sources.open import open_source
from pumpseg_bench import machine
from pumpseg_bench.accuracy_check import compare

WARMUP_ROUNDS = 2


def rows_of(usual: Path, static: Path, provider: str) -> dict[str, Segmenter]:
    """A segmenter of each row; what a provider does by default is changed while one opens."""
    here = PROVIDERS[provider]
    plain = dataclasses.replace(here, fixed_options={})
    wanted = {
        "usual, rois_multiple 1": (usual, dataclasses.replace(here, rois_multiple=1)),
        "usual, rois_multiple 32": (usual, dataclasses.replace(here, rois_multiple=32)),
        "static, no CUDA graph": (static, plain),
        "static, CUDA graph": (static, here),
    }
    rows = {}
    for name, (path, changed) in wanted.items():
        PROVIDERS[provider] = changed
        rows[name] = Segmenter(path, provider=provider)
    PROVIDERS[provider] = here
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("usual", type=Path)
    parser.add_argument("static", type=Path)
    parser.add_argument("--provider", default="cuda", choices=sorted(PROVIDERS))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    try:
        images = [frame.image for frame in open_source("demo")][::4]
        rows = rows_of(arguments.usual, arguments.static, arguments.provider)
        reference = [described(Segmenter(arguments.usual, provider="cpu"), image) for image in images]
    except PumpsegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    milliseconds: dict[str, list[float]] = {name: [] for name in rows}
    multiples = {"usual, rois_multiple 1": 1, "usual, rois_multiple 32": 32}
    here, turns = PROVIDERS[arguments.provider], random.Random(0)
    for number in range(WARMUP_ROUNDS + arguments.rounds):
        for name in turns.sample(list(rows), len(rows)):
            # It is read at every frame.
            PROVIDERS[arguments.provider] = dataclasses.replace(here, rois_multiple=multiples.get(name, 1))
            for image in images:
                _, timings = rows[name].timed(image)
                if number >= WARMUP_ROUNDS:
                    milliseconds[name].append(1000 * (timings.pre + timings.session + timings.post))
    print(json.dumps(dataclasses.asdict(machine.describe())))
    print("| | median, ms | 90th percentile, ms | instances matched | mean mask IoU |\n|---|---|---|---|---|")
    wrong = False
    for name, segmenter in rows.items():
        median, p90 = np.percentile(milliseconds[name], [50, 90])
        agreement = compare([described(segmenter, image) for image in images], reference)
        wrong |= not agreement.agrees
        print(f"| {name} | {median:.2f} | {p90:.2f} | {agreement.matched:.1%} | {agreement.mask_iou or 0:.4f} |")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(milliseconds), encoding="utf-8")
    return 1 if wrong else 0


def described(segmenter: Segmenter, image: np.ndarray) -> dict:
    found = segmenter(image)
    return {
        "boxes": found.boxes.tolist(),
        "scores": found.scores.tolist(),
        "class_ids": found.class_ids.tolist(),
        "masks": found.to_rle(),
    }


if __name__ == "__main__":
    sys.exit(main())
