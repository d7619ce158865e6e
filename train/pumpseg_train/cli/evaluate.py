"""pumpseg-eval: COCO AP and false alarms of an exported model file."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from pumpseg.errors import PumpsegError
from pumpseg_train.cli.command import counter, run_command


def main(argv: list[str] | None = None) -> int:
    """Run `pumpseg-eval`; returns 0, 2 on bad input, 130 on Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="pumpseg-eval",
        description="COCO box and mask AP of a model file on DATA/SPLIT, and false alarms on photos without objects.",
    )
    parser.add_argument("model", metavar="MODEL", help="ONNX file, or the name of a shipped model")
    parser.add_argument("data", type=Path, metavar="DATA", help="data set in COCO json")
    parser.add_argument("--split", default="val", help="default val")
    parser.add_argument(
        "--negatives",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="photos that show none of the classes",
    )
    parser.add_argument("--provider", default="cpu", help="execution provider (default cpu)")
    parser.add_argument("--threads", type=int, metavar="N", help="default: physical cores")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    arguments = parser.parse_args(argv)
    return run_command("pumpseg-eval", lambda: _evaluate(arguments))


def _evaluate(arguments: argparse.Namespace) -> None:
    if arguments.threads is not None and arguments.threads < 1:
        raise PumpsegError(f"--threads {arguments.threads}: at least 1 is needed")
    if arguments.json and not arguments.json.parent.is_dir():
        raise PumpsegError(f"--json {arguments.json}: there is no folder {arguments.json.parent}")
    from pumpseg import Segmenter
    from pumpseg_train.data.coco import list_images, read_dataset
    from pumpseg_train.evaluate import evaluate, false_alarms

    dataset = read_dataset(arguments.data, arguments.split)
    negatives = [path for folder in arguments.negatives for path in list_images(folder)]
    segmenter = Segmenter(arguments.model, provider=arguments.provider, threads=arguments.threads, score=0.0)
    metrics = evaluate(dataset, segmenter, counter("photos"))
    figures: dict[str, Any] = metrics.to_json()

    height, width = segmenter.info.input_size
    print(f"{arguments.model} at {width}x{height} on {len(dataset.photos)} photos of {dataset.json_path.parent}")
    names = [field.name for field in dataclasses.fields(metrics.mask)]
    print(f"{'':6}" + "".join(f"{name:>8}" for name in names))
    for kind in ("box", "mask"):
        print(f"{kind:6}" + "".join(f"{getattr(getattr(metrics, kind), name):8.3f}" for name in names))
    if negatives:
        alarms = false_alarms(negatives, segmenter)
        rate = 100 * len(alarms) / len(negatives)
        print(f"false alarms at score 0.5: {len(alarms)} of {len(negatives)} negative photos, {rate:.1f} in 100")
        figures["false_alarms"] = {
            "photos": len(negatives),
            "alarms": [[str(p), score] for p, score in alarms],
        }
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
