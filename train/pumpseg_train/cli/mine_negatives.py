"""pumpseg-data mine-negatives: keep the photos that mislead a model."""

import argparse
import csv
from pathlib import Path

from pumpseg.cli.arguments import share
from pumpseg.errors import PumpsegError
from pumpseg.plural import counted
from pumpseg_train.cli.command import Commands

ALARMS = "alarms.csv"


def add_mine_negatives(commands: Commands) -> None:
    parser = commands.add_parser(
        "mine-negatives",
        help="keep the photos without objects in which a model finds some",
        examples=[
            "pumpseg-data mine-negatives fast photos/empty --out data/misleading",
            "pumpseg-data mine-negatives runs/fruit photos/a photos/b --out data/misleading --threshold 0.5",
        ],
        description="Copy those of PHOTOS, which must show none of the classes, in which MODEL raises a false alarm. "
        "Give the result to pumpseg-train as one more folder of --backgrounds: each folder is drawn equally often.",
    )
    parser.add_argument(
        "model", metavar="MODEL", help="ONNX file, name of a shipped model, or folder of a training run"
    )
    parser.add_argument("photos", type=Path, nargs="+", metavar="PHOTOS", help="folders of photos")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="must be new or empty")
    parser.add_argument(
        "--threshold", type=share, default=0.3, metavar="S", help="score from which it is an alarm (default 0.3)"
    )
    parser.set_defaults(run=_mine_negatives, if_interrupted="interrupted, nothing was written")


def _mine_negatives(arguments: argparse.Namespace) -> None:
    from pumpseg_train.cli.model import load_model
    from pumpseg_train.dataset.atomic_folder import atomic_folder, place_photos
    from pumpseg_train.dataset.labelled_set import Photo
    from pumpseg_train.dataset.photo_file import list_images
    from pumpseg_train.evaluation.metrics import false_alarms
    from pumpseg_train.progress import StderrProgress

    photos = [path for folder in arguments.photos for path in list_images(folder)]
    with atomic_folder(arguments.out) as unfinished:
        model = load_model(arguments.model)
        with StderrProgress().stage("counting false alarms", len(photos), "photos") as advance:
            alarms = false_alarms(photos, model.predict, arguments.threshold, advance)
        if not alarms:
            raise PumpsegError(f"no false alarm at {arguments.threshold:g} in {len(photos)} photos: nothing to keep")
        alarms.sort(key=lambda alarm: -alarm[1])
        placed = place_photos([Photo(path, 0, 0) for path, _ in alarms], unfinished / "images", link=False)
        with (unfinished / ALARMS).open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["photo", "score"])
            table.writerows([name, f"{score:.3f}"] for (_, name), (_, score) in zip(placed, alarms, strict=True))
    share = f"{len(alarms)} of {counted(len(photos), 'photo')}"
    print(f"wrote {arguments.out}: an alarm at {arguments.threshold:g} on {share}")
