"""What int8 costs in AP, for every way to calibrate, and with the mask head in int8 or not.

    python benchmarks/experiments/int8_accuracy.py fast data/pumpkin --calibrate data/pumpkin/train/images --photos 200

MODEL is a float32 model file or the name of a shipped one, DATA a data set in COCO json. Prints a table for
docs/performance.md, row by row as they are done; a method that looks at every activation (percentile, entropy) takes
a few seconds a photo.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx

from pumpseg import Segmenter
from pumpseg.cli.arguments import count
from pumpseg.cli.command import run_command
from pumpseg.inference.model_file import METADATA_KEY, find_model
from pumpseg_export.float16 import restore_float32
from pumpseg_export.metadata import write_model
from pumpseg_export.quantise import MASK_HEAD, METHODS, TRUNK, quantise
from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.dataset.labelled_set import LabelledSet
from pumpseg_train.dataset.photo_file import list_images, read_frame
from pumpseg_train.evaluation.metrics import evaluate


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--split", default="val", help="default val")
    parser.add_argument("--calibrate", type=Path, nargs="+", required=True, metavar="DIR", help="folders of photos")
    parser.add_argument("--photos", type=count, default=200, help="calibrate on so many of them (default 200)")
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=tuple(METHODS))
    return run_command("int8_accuracy", lambda: compare(parser.parse_args(argv)))


def compare(arguments: argparse.Namespace) -> None:
    path = find_model(arguments.model)
    dataset = read_dataset(arguments.data, arguments.split)
    plain = Segmenter(path, provider="cpu", threshold=0.0)
    photos = [photo for folder in arguments.calibrate for photo in list_images(folder)]
    photos = random.Random(0).sample(photos, min(arguments.photos, len(photos)))
    images = [plain.model.prepare(read_frame(photo))[0].copy() for photo in photos]
    print(f"{path.stem}, {plain.info.source_hash[:19]}, calibrated on {len(photos)} photos\n")
    print("| int8 | calibrated by | mask AP | AP50 | AP75 | box AP |\n|---|---|---|---|---|---|")
    row("nothing (float32)", "", dataset, plain)
    graph = onnx.load(path)
    description = json.loads(next(entry.value for entry in graph.metadata_props if entry.key == METADATA_KEY))
    float32 = restore_float32(graph)
    with tempfile.TemporaryDirectory() as folder:
        for method in arguments.methods:
            quantised = float32
            for part, name in ((TRUNK, "trunk"), (MASK_HEAD, "trunk and mask head")):
                quantised = quantise(quantised, part, images, method)
                write_model(quantised, description, Path(folder) / "int8.onnx")
                row(name, method, dataset, Segmenter(Path(folder) / "int8.onnx", provider="cpu", threshold=0.0))


def row(name: str, method: str, dataset: LabelledSet, segmenter: Segmenter) -> None:
    metrics = evaluate(dataset, segmenter)
    figures = (metrics.mask.ap, metrics.mask.ap50, metrics.mask.ap75, metrics.box.ap)
    print(f"| {name} | {method} | " + " | ".join(f"{figure:.4f}" for figure in figures) + " |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
