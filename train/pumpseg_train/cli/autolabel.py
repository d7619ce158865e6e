"""pumpseg-data pseudo-label and label-on-white."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pumpseg.cli.arguments import share, whole
from pumpseg.errors import PumpsegError
from pumpseg.plural import counted
from pumpseg_train.cli.command import Commands

if TYPE_CHECKING:
    from pumpseg_train.dataset.labelled_set import LabelledSet

_Label = Callable[[list[Path], Callable[[], None]], "LabelledSet"]


def add_pseudo_label(commands: Commands) -> None:
    parser = commands.add_parser(
        "pseudo-label",
        help="let a trained model label photos",
        examples=[
            "pumpseg-data pseudo-label fast photos/ --out data/more",
            "pumpseg-data pseudo-label runs/fruit photos/ --out data/more --threshold 0.7",
        ],
        description="Label photos with what MODEL is sure of. The rest of each photo becomes a crowd region, so that "
        "what the model missed is not learnt as background. Give the result to pumpseg-train as --auxiliary.",
    )
    parser.add_argument(
        "model", metavar="MODEL", help="ONNX file, name of a shipped model, or folder of a training run"
    )
    _add_common(parser)
    parser.add_argument(
        "--threshold", type=share, default=0.5, metavar="S", help="minimum score of a detection that becomes a label"
    )
    parser.add_argument(
        "--max-detections", type=whole(1, 100), default=25, metavar="N", help="leave out photos with more detections"
    )
    parser.add_argument(
        "--solidity",
        type=share,
        default=0.0,
        metavar="SHARE",
        help="minimum share of its convex hull that a mask fills: 0.9 for round things",
    )
    parser.set_defaults(run=_pseudo_label, if_interrupted="interrupted, nothing was written")


def add_label_on_white(commands: Commands) -> None:
    parser = commands.add_parser(
        "label-on-white",
        help="find the outlines of objects photographed on white",
        examples=[
            "pumpseg-data label-on-white photos/ --class pumpkin --out data/white",
            "pumpseg-data label-on-white photos/ --class pumpkin --reject wrong.txt --out data/white",
        ],
        description="Label photos of coloured objects on white, by GrabCut; doubtful ones are left out.",
    )
    _add_common(parser)
    parser.add_argument("--class", dest="class_name", required=True, metavar="NAME", help="what the objects are")
    parser.set_defaults(run=_label_on_white, if_interrupted="interrupted, nothing was written")


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photos", type=Path, metavar="PHOTOS", help="folder of photos")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="must be new or empty")
    parser.add_argument(
        "--reject", type=Path, metavar="FILE", help="names of photos to leave out, one a line: those labelled wrongly"
    )


def _pseudo_label(arguments: argparse.Namespace) -> None:
    from pumpseg_train.autolabel.pseudo_labels import pseudo_label
    from pumpseg_train.cli.model import load_model

    def label(photos: list[Path], progress: Callable[[], None]) -> "LabelledSet":
        return pseudo_label(
            photos,
            load_model(arguments.model).predict,
            threshold=arguments.threshold,
            max_detections=arguments.max_detections,
            solidity=arguments.solidity,
            progress=progress,
        )

    _write(arguments, label)


def _label_on_white(arguments: argparse.Namespace) -> None:
    from pumpseg_train.autolabel.white_background import label_on_white

    _write(arguments, lambda photos, progress: label_on_white(photos, arguments.class_name, progress))


def _write(arguments: argparse.Namespace, label: _Label) -> None:
    from pumpseg_train.dataset.annotations import write_set
    from pumpseg_train.dataset.atomic_folder import atomic_folder
    from pumpseg_train.progress import StderrProgress

    out, photos = arguments.out, _photos(arguments)
    with atomic_folder(out) as unfinished:
        with StderrProgress().stage("labelling", len(photos), "photos") as advance:
            labelled = label(photos, lambda: advance(1))
        if not labelled.photos:
            raise PumpsegError(f"nothing could be labelled in {counted(len(photos), 'photo')} of {arguments.photos}")
        write_set(labelled, unfinished)
    count = len(labelled.photos)
    print(f"wrote {out}: {count} of {counted(len(photos), 'photo')}, {counted(labelled.count('train'), 'instance')}")
    print(f"to look through them: pumpseg-data show {out} --save sheet.png --count {count} --columns 12")


def _photos(arguments: argparse.Namespace) -> list[Path]:
    from pumpseg_train.dataset.input_file import read_text
    from pumpseg_train.dataset.photo_file import list_images

    rejected: set[str] = set()
    if arguments.reject:
        try:
            rejected = set(read_text(arguments.reject).splitlines()) - {""}
        except PumpsegError as error:
            raise PumpsegError(f"--reject {arguments.reject}: {error}") from None
    photos = list_images(arguments.photos)
    if unknown := rejected - {path.name for path in photos}:
        raise PumpsegError(f"--reject {arguments.reject}: {arguments.photos} has no photo {min(unknown)}")
    return [path for path in photos if path.name not in rejected]
