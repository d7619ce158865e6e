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
from pumpseg.plural import counted
from pumpseg_train.cli.command import run_command
from pumpseg_train.cli.model import LoadedModel, load_model, load_weights_model
from pumpseg_train.cli.weights import WEIGHTS_OPTIONS, add_weights_options, describe_weights, is_weights


def main(argv: list[str] | None = None) -> int:
    """Run `pumpseg-eval`; returns 0, 2 on bad input, 130 on Ctrl-C."""
    return run_command("pumpseg-eval", lambda: _evaluate(make_parser().parse_args(argv)))


def make_parser() -> CommandParser:
    parser = CommandParser(
        prog="pumpseg-eval",
        description="COCO box and mask AP of a model on DATA/SPLIT, and false alarms on photos without objects.",
        examples=[
            "pumpseg-eval fruit.onnx data/fruit",
            "pumpseg-eval fast data/fruit --split test --negatives photos/empty --report report/",
        ],
        version=True,
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
        metavar="S",
        help="lowest score that counts for --report and false alarms (default: the one that the model recommends)",
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
    return parser


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
    from pumpseg_train.evaluation.metrics import detect, finite, highest_scores, score
    from pumpseg_train.evaluation.operating_point import ALARM_RATES, score_detections
    from pumpseg_train.evaluation.report import match_photos
    from pumpseg_train.progress import StderrProgress

    dataset = read_dataset(arguments.data, arguments.split)
    negatives = [path for folder in arguments.negatives for path in list_images(folder)]
    if arguments.json:
        check_names([arguments.json], [Path(arguments.model), dataset.json_path, *(p.path for p in dataset.photos)])
    model = _load(arguments)
    threshold = model.threshold if arguments.threshold is None else arguments.threshold
    progress = StderrProgress()
    with progress.stage("segmenting", len(dataset.photos), "photos") as advance:
        results = detect(dataset, model.predict, advance)
    metrics = score(dataset, results)
    figures: dict[str, Any] = {**metrics.to_json(), "classes": metrics.classes_to_json()}

    size = f"{model.input_size[1]}x{model.input_size[0]}"
    print(f"{arguments.model} at {size} on {counted(len(dataset.photos), 'photo')} of {dataset.json_path.parent}")
    names = [field.name for field in dataclasses.fields(metrics.mask)]
    print(f"{'':6}" + "".join(f"{name:>8}" for name in names))
    for kind in ("box", "mask"):
        print(f"{kind:6}" + "".join(f"{getattr(getattr(metrics, kind), name):8.3f}" for name in names))
    if len(metrics.classes) > 1:
        width = max(map(len, metrics.classes))
        print(f"{'':{width}}  box ap    ap50  mask ap    ap50")
        for name, of in metrics.classes.items():
            print(f"{name:{width}}{of.box_ap:8.3f}{of.box_ap50:8.3f}{of.mask_ap:9.3f}{of.mask_ap50:8.3f}")
    highest: list[tuple[Path, float]] = []
    if negatives:
        with progress.stage("counting false alarms", len(negatives), "photos") as advance:
            highest = highest_scores(negatives, model.predict, advance)
        alarms = [(path, best) for path, best in highest if best and best >= threshold]
        print(
            f"false alarms at threshold {threshold:g}: "
            f"{len(alarms)} of {len(negatives)} negative photos, {100 * len(alarms) / len(negatives):.1f} in 100"
        )
        figures["false_alarms"] = {"photos": len(negatives), "alarms": [[str(path), best] for path, best in alarms]}
    scored = score_detections(match_photos(dataset, results, 0.0)[1], [best for _, best in highest])
    points = {"threshold": scored.at(threshold)}
    if negatives:
        points |= {f"{rate:g} in 100": scored.for_alarms(rate) for rate in ALARM_RATES}
    print(f"{'':12}{'threshold':>10}{'recall':>8}{'precision':>11}{'alarms':>8}")
    for name, point in points.items():
        print(f"{name:12}{point.threshold:10.2f}{point.recall:8.3f}{point.precision:11.3f}{point.alarms:8.1f}")
    figures["operating_points"] = {name: finite(point) for name, point in points.items()}
    figures["curve"] = [finite(point) for point in scored.curve()]
    figures["reliability"] = [list(row) for row in scored.reliability()]
    if arguments.report:
        from pumpseg_train.evaluation.report import write_report

        for path in write_report(arguments.report, dataset, results, threshold, scored):
            print(f"wrote {path}")
    if arguments.json:
        write_json(arguments.json, figures)


if __name__ == "__main__":
    sys.exit(main())
