"""Prints what int8 costs in AP, by method of calibration, and with the mask head in int8 or not.

    python benchmarks/experiments/int8_accuracy.py fast data/pumpkin --calibrate data/pumpkin/train/images

MODEL is a float32 model file or the name of a shipped one, DATA a data set in COCO JSON. The table for
docs/performance.md is printed row by row; percentile and entropy, which look at every activation, take a few seconds a
photo.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx
from measuring import print_table

from pumpseg.cli.arguments import count, path
from pumpseg.cli.command import CommandParser, run_command
from pumpseg.inference.model import Model
from pumpseg.inference.model_file import find_model
from pumpseg_export.float16 import restore_float32
from pumpseg_export.int8 import Calibration
from pumpseg_export.measure import measure
from pumpseg_export.metadata import read_description, write_model
from pumpseg_export.quantise import MASK_HEAD, METHODS, TRUNK, quantise
from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.dataset.labelled_set import LabelledSet
from pumpseg_train.dataset.photo_file import list_images


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("data", type=path, metavar="DATA")
    parser.add_argument("--split", default="val")
    parser.add_argument("--calibrate", type=path, nargs="+", required=True, metavar="DIR", help="folders of photos")
    parser.add_argument("--calibration-photos", type=count, default=200, metavar="N", help="photos to use")
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=tuple(METHODS))
    arguments = parser.parse_args(argv)

    def compare() -> None:
        file = find_model(arguments.model)
        data = read_dataset(arguments.data, arguments.split)
        photos = [photo for folder in arguments.calibrate for photo in list_images(folder)]
        calibration = Calibration(photos, arguments.calibration_photos, arguments.methods)
        print(f"{file.stem}, calibrated on {min(len(photos), calibration.count)} photos\n")
        print_table(("int8", "calibrated by", "mask AP", "AP50", "AP75", "box AP"), rows(file, calibration, data))

    return run_command(parser.prog, compare)


def rows(file: Path, calibration: Calibration, data: LabelledSet) -> Iterator[list[str]]:
    """Parts in int8, method and metrics of the float32 file and of every int8 one."""
    yield ["nothing (float32)", "", *cells(file, data)]
    graph = onnx.load(file)
    description, float32 = read_description(graph), restore_float32(graph)
    images = calibration.model_inputs(Model.open(file, "cpu"))
    with tempfile.TemporaryDirectory() as folder:
        int8 = Path(folder) / "int8.onnx"
        for method in calibration.methods:
            quantised = float32
            for part, name in ((TRUNK, "trunk"), (MASK_HEAD, "trunk and mask head")):
                quantised = quantise(quantised, part, images, method)
                write_model(quantised, description, int8)
                yield [name, method, *cells(int8, data)]


def cells(file: Path, data: LabelledSet) -> list[str]:
    metrics = measure(file, data)
    return [f"{figure:.4f}" for figure in (metrics.mask.ap, metrics.mask.ap50, metrics.mask.ap75, metrics.box.ap)]


if __name__ == "__main__":
    sys.exit(main())
