"""Options for a Matterport `.h5`: what the file itself does not contain."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pumpseg.cli.arguments import count, share
from pumpseg.errors import PumpsegError
from pumpseg_train.cli.command import class_names

if TYPE_CHECKING:
    from pumpseg_train.model.profile import Profile

WEIGHTS_OPTIONS = ("profile", "classes", "nms", "min_side")


def is_weights(path: Path) -> bool:
    return path.suffix.lower() in (".h5", ".hdf5")


def add_weights_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Adds WEIGHTS_OPTIONS in a group of their own, and returns that."""
    group = parser.add_argument_group("for WEIGHTS.h5 only")
    group.add_argument("--profile", metavar="NAME", help="matterport-resnet50 or matterport-resnet101")
    group.add_argument("--classes", nargs="+", metavar="NAME", help="in mrcnn's order; or NAMES.txt, one name per line")
    group.add_argument("--nms", type=share, metavar="IOU", help="DETECTION_NMS_THRESHOLD (default 0.3)")
    group.add_argument("--min-side", type=count, metavar="PX", help="IMAGE_MIN_DIM (default 800)")
    return group


def input_size(size: tuple[int, int] | None) -> tuple[int, int] | None:
    """(h, w) of the (w, h) that --size gives."""
    return None if size is None else (size[1], size[0])


def describe_weights(
    weights: Path, arguments: argparse.Namespace, threshold: float | None = None
) -> tuple[Profile, tuple[str, ...]]:
    """Profile and class names of a `.h5` by the options given; threshold: DETECTION_MIN_CONFIDENCE, 0.7 if None.

    Raises PumpsegError for options that are missing or out of range, names that cannot be read, and a damaged file.
    """
    from pumpseg.inference.letterbox import Rule
    from pumpseg_train.matterport.weights_file import count_classes, read_weights
    from pumpseg_train.model.profile import PROFILES

    choices = [name for name in PROFILES if name.startswith("matterport")]
    if arguments.profile not in choices:
        raise PumpsegError(f"a .h5 file needs --profile: one of {', '.join(choices)}, not {arguments.profile}")
    if arguments.classes is None:
        raise PumpsegError("a .h5 file has class numbers only: give their names with --classes NAMES.txt")
    changed: dict[str, Any] = {
        "input_size": input_size(arguments.size),
        "score_threshold": threshold,
        "nms_threshold": arguments.nms,
    }
    if arguments.min_side is not None:
        changed["letterbox"] = Rule("centred", min_side=arguments.min_side)
    try:
        profile = dataclasses.replace(
            PROFILES[arguments.profile], **{name: value for name, value in changed.items() if value is not None}
        )
    except ValueError as error:
        raise PumpsegError(str(error)) from None
    return profile, mrcnn_class_names(arguments.classes, count_classes(read_weights(weights)))


def mrcnn_class_names(values: list[str], wanted: int | None) -> tuple[str, ...]:
    """The class names, without the background that mrcnn's lists begin with."""
    names = class_names(values)
    if names and names[0].lower() in ("bg", "background", "__background__") and wanted != len(names):
        names = names[1:]
    if not names:
        raise PumpsegError(f"--classes {values[0]} names no classes")
    if len(set(names)) < len(names):
        raise PumpsegError(f"--classes names {next(name for name in names if names.count(name) > 1)!r} twice")
    return tuple(names)
