"""pumpseg-data pseudo-label and label-on-white."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pumpseg.errors import PumpsegError
from pumpseg_train.cli.command import Commands

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pumpseg_train.dataset.labelled_set import LabelledPhoto
    from pumpseg_train.progress import Advance


def add_pseudo_label(commands: Commands) -> None:
    parser = commands.add_parser(
        "pseudo-label",
        help="let a trained model label photos",
        description="Label photos with what MODEL is sure of. The rest of each photo becomes a crowd region, so that "
        "what the model missed is not learnt as background. Give the result to pumpseg-train as --extras.",
    )
    parser.add_argument(
        "model", metavar="MODEL", help="ONNX file, name of a shipped model, or folder of a training run"
    )
    _add_common(parser)
    parser.add_argument(
        "--threshold", type=float, default=0.5, metavar="S", help="what the model must be sure of (default 0.5)"
    )
    parser.add_argument(
        "--most", type=int, default=25, metavar="N", help="leave out photos with more detections (default 25)"
    )
    parser.add_argument(
        "--solidity",
        type=float,
        default=0.0,
        metavar="S",
        help="least share of its convex hull that a mask fills: 0.9 for round things (default 0)",
    )
    parser.set_defaults(run=_pseudo_label, if_interrupted="interrupted, nothing was written")


def add_label_on_white(commands: Commands) -> None:
    parser = commands.add_parser(
        "label-on-white",
        help="find the outlines of objects photographed on white",
        description="Label photos of coloured objects on white, by GrabCut; doubtful ones are left out.",
    )
    _add_common(parser)
    parser.add_argument("--class", dest="class_name", required=True, metavar="NAME", help="what the objects are")
    parser.set_defaults(run=_label_on_white, if_interrupted="interrupted, nothing was written")


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photos", type=Path, metavar="PHOTOS", help="folder of photos")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="must be new or empty")
    parser.add_argument(
        "--reject", type=Path, metavar="FILE", help="names of photos to leave out, one a line: what you saw to be wrong"
    )


def _pseudo_label(arguments: argparse.Namespace) -> None:
    for name, low, high in (("score", 0, 1), ("solidity", 0, 1), ("most", 1, 100)):
        value = getattr(arguments, name)
        if not low <= value <= high:
            raise PumpsegError(f"--{name} {value}: between {low} and {high} is possible")
    from pumpseg_train.autolabel.pseudo_labels import pseudo_label
    from pumpseg_train.cli.model import load_model
    from pumpseg_train.dataset.atomic_folder import new_folder

    photos = _photos(arguments)
    with new_folder(arguments.out) as unfinished:
        model = load_model(arguments.model)
        with _progress(len(photos)) as advance:
            labelled = pseudo_label(
                photos,
                model.predict,
                score=arguments.threshold,
                most=arguments.most,
                solidity=arguments.solidity,
                progress=lambda: advance(1),
            )
        _write(unfinished, arguments.photos, len(photos), labelled)
    _tell(arguments.out, len(photos), labelled)


def _label_on_white(arguments: argparse.Namespace) -> None:
    from pumpseg_train.autolabel.white_background import label_on_white
    from pumpseg_train.dataset.atomic_folder import new_folder

    photos = _photos(arguments)
    with new_folder(arguments.out) as unfinished:
        with _progress(len(photos)) as advance:
            labelled = label_on_white(photos, arguments.class_name, lambda: advance(1))
        _write(unfinished, arguments.photos, len(photos), labelled)
    _tell(arguments.out, len(photos), labelled)


def _photos(arguments: argparse.Namespace) -> list[Path]:
    from pumpseg_train.dataset.annotations import list_images

    rejected: set[str] = set()
    if arguments.reject:
        try:
            rejected = set(arguments.reject.read_text(encoding="utf-8-sig").split("\n")) - {""}
        except OSError as error:
            raise PumpsegError(f"--reject {arguments.reject}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise PumpsegError(f"--reject {arguments.reject}: {error}") from None
    photos = list_images(arguments.photos)
    if unknown := rejected - {path.name for path in photos}:
        raise PumpsegError(f"--reject {arguments.reject}: {arguments.photos} has no photo {min(unknown)}")
    return [path for path in photos if path.name not in rejected]


def _progress(total: int) -> "AbstractContextManager[Advance]":
    from pumpseg_train.progress import StderrProgress

    return StderrProgress().stage("labelling", total, "photos")


def _write(folder: Path, source: Path, photos: int, labelled: "list[LabelledPhoto]") -> None:
    from pumpseg_train.convert.coco import write
    from pumpseg_train.dataset.labelled_set import labelled_set

    if not labelled:
        raise PumpsegError(f"nothing could be labelled in the {photos} photos of {source}")
    write(labelled_set({"train": labelled}), folder, link=False)


def _tell(out: Path, photos: int, labelled: "list[LabelledPhoto]") -> None:
    count = sum(not label.crowd for photo in labelled for label in photo.labels)
    print(f"wrote {out}: {len(labelled)} of {photos} photos, {count} instances")
    print(f"look at them: pumpseg-data show {out} --out sheet.png --count {len(labelled)} --columns 12")
