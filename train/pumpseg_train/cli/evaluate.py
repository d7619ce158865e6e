"""pumpseg-eval: COCO AP and false alarms of a model."""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

from pumpseg.atomic_file import check_names, write_json
from pumpseg.cli.arguments import share, size_or_side, whole
from pumpseg.cli.command import CommandParser
from pumpseg.errors import PumpsegError
from pumpseg.inference.providers import MAX_THREADS
from pumpseg.inference.tiles import MAX_TILES
from pumpseg_train.cli.command import run_command
from pumpseg_train.cli.model import LoadedModel, load_model, load_weights_model
from pumpseg_train.cli.weights import WEIGHTS_OPTIONS, add_weights_options, describe_weights, is_weights


def main(argv: list[str] | None = None) -> int:
    """Run `pumpseg-eval`; returns 0, 2 on bad input, 130 on Ctrl-C."""
    parser = CommandParser(
        prog="pumpseg-eval",
        description="COCO box and mask AP of a model on DATA/SPLIT, and false alarms on photos without objects.",
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="ONNX file, name of a shipped model, folder of a training run, or .h5 of Matterport's mrcnn",
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="data set in COCO json")
    parser.add_argument("--split", default="val", help="default val")
    parser.add_argument(
        "--negatives", type=Path, nargs="+", default=[], metavar="DIR", help="photos without any of the classes"
    )
    parser.add_argument(
        "--report", type=Path, metavar="DIR", help="write precision-recall, confusion and worst photos as pictures"
    )
    parser.add_argument(
        "--threshold",
        type=share,
        default=0.5,
        metavar="S",
        help="lowest score that counts for --report and false alarms (default 0.5)",
    )
    parser.add_argument("--provider", default="cpu", help="execution provider of an ONNX file (default cpu)")
    parser.add_argument(
        "--threads", type=whole(1, MAX_THREADS), metavar="N", help="of an ONNX file (default: physical cores)"
    )
    parser.add_argument(
        "--tiles",
        type=whole(1, MAX_TILES),
        default=1,
        metavar="N",
        help="also run the model on N x N overlapping tiles of each photo",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    weights = add_weights_options(parser)
    weights.add_argument("--size", type=size_or_side, metavar="PX or WxH", help="IMAGE_MAX_DIM (default 1024)")
    return run_command("pumpseg-eval", lambda: _evaluate(parser.parse_args(argv)))


def _load(arguments: argparse.Namespace) -> LoadedModel:
    path = Path(arguments.model)
    if is_weights(path):
        if arguments.tiles > 1:
            raise PumpsegError(f"--tiles takes an ONNX file: pumpseg-export {path} ... -o model.onnx makes one")
        return load_weights_model(path, *describe_weights(path, arguments, threshold=0.0))
    for name in (*WEIGHTS_OPTIONS, "size"):
        if getattr(arguments, name) is not None:
            raise PumpsegError(f"--{name.replace('_', '-')} goes with a .h5 file, which {path} is not")
    return load_model(arguments.model, arguments.provider, arguments.threads, arguments.tiles)


def _evaluate(arguments: argparse.Namespace) -> None:
    if arguments.json and not arguments.json.parent.is_dir():
        raise PumpsegError(f"--json {arguments.json}: no such folder: {arguments.json.parent}")
    if arguments.report and arguments.report.exists() and not arguments.report.is_dir():
        raise PumpsegError(f"--report {arguments.report}: not a folder")
    from pumpseg_train.dataset.annotations import read_dataset
    from pumpseg_train.dataset.photo_file import list_images
    from pumpseg_train.evaluation.metrics import detect, false_alarms, score
    from pumpseg_train.progress import StderrProgress

    dataset = read_dataset(arguments.data, arguments.split)
    negatives = [path for folder in arguments.negatives for path in list_images(folder)]
    if arguments.json:
        check_names([arguments.json], [Path(arguments.model), dataset.json_path, *(p.path for p in dataset.photos)])
    model = _load(arguments)
    progress = StderrProgress()
    with progress.stage("segmenting", len(dataset.photos), "photos") as advance:
        results = detect(dataset, model.predict, advance)
    metrics = score(dataset, results)
    figures: dict[str, Any] = {**metrics.to_json(), "classes": metrics.classes_to_json()}

    height, width = model.input_size
    print(f"{arguments.model} at {width}x{height} on {len(dataset.photos)} photos of {dataset.json_path.parent}")
    names = [field.name for field in dataclasses.fields(metrics.mask)]
    print(f"{'':6}" + "".join(f"{name:>8}" for name in names))
    for kind in ("box", "mask"):
        print(f"{kind:6}" + "".join(f"{getattr(getattr(metrics, kind), name):8.3f}" for name in names))
    if len(metrics.classes) > 1:
        width = max(map(len, metrics.classes))
        print(f"{'':{width}}  box ap    ap50  mask ap    ap50")
        for name, of in metrics.classes.items():
            print(f"{name:{width}}{of.box_ap:8.3f}{of.box_ap50:8.3f}{of.mask_ap:9.3f}{of.mask_ap50:8.3f}")
    if negatives:
        with progress.stage("counting false alarms", len(negatives), "photos") as advance:
            alarms = false_alarms(negatives, model.predict, arguments.threshold, advance)
        rate = 100 * len(alarms) / len(negatives)
        print(
            f"false alarms at score {arguments.threshold:g}: "
            f"{len(alarms)} of {len(negatives)} negative photos, {rate:.1f} in 100"
        )
        figures["false_alarms"] = {
            "photos": len(negatives),
            "alarms": [[str(path), score] for path, score in alarms],
        }
    if arguments.report:
        from pumpseg_train.evaluation.report import write_report

        for path in write_report(arguments.report, dataset, results, arguments.threshold):
            print(f"wrote {path}")
    if arguments.json:
        write_json(arguments.json, figures)


if __name__ == "__main__":
    sys.exit(main())
