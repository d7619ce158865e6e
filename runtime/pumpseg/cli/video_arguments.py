"""The arguments of `pumpseg-video`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from pumpseg.cli.arguments import count, path, positive, seconds, share, size, whole
from pumpseg.cli.command import CommandParser
from pumpseg.drawing import COLORS
from pumpseg.errors import OptionError, PumpsegError
from pumpseg.inference.model_file import DEFAULT_MODEL, SHIPPED_MODELS
from pumpseg.inference.providers import AUTO, MAX_THREADS, provider_names
from pumpseg.inference.threads import MAX_WORKERS
from pumpseg.inference.tiles import MAX_TILES
from pumpseg.video.sinks.open import STANDARD_OUTPUT
from pumpseg.video.sinks.video import CODECS, DEFAULT_CODEC
from pumpseg.video.viewers.live_page import STILL_SECONDS
from pumpseg.video.viewers.page_access import PageAddress
from pumpseg.zones.shapes import Line, Shape, Zone, check_names

PROGRAM = "pumpseg-video"
LOCAL, RAY = "local", "ray"


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments of a command line. Raises PumpsegError for options that exclude each other."""
    arguments = make_parser().parse_args(argv)
    _check(arguments)
    return arguments


def make_parser() -> CommandParser:
    """The parser of the options, which does not know those that exclude each other."""
    parser = CommandParser(
        PROGRAM,
        description="Segment the instances in a camera's picture, videos or images.",
        examples=["pumpseg-video webcam", "pumpseg-video patch.mp4 --save out.mp4 --json out.jsonl"],
        version=True,
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="webcam, webcam:N, /dev/videoN, demo, an rtsp:// or http:// URL, a video, images, a folder, "
        "a 'pattern*.mp4', a .txt list of files, or - for standard input",
    )

    results = parser.add_argument_group("results")
    results.add_argument(
        "--save",
        type=path,
        metavar="FILE",
        help="save annotated frames: a video or image file, a folder for several images or the frames of a video, "
        "or - for raw frames on standard output",
    )
    results.add_argument(
        "--json",
        type=path,
        nargs="?",
        const=True,
        metavar="FILE",
        help="save one JSON object per frame, with masks as COCO RLE; - for standard output",
    )
    results.add_argument("--coco", type=path, nargs="?", const=True, metavar="FILE", help="save COCO results")
    results.add_argument(
        "--coco-truth",
        type=path,
        metavar="FILE",
        help="COCO json whose image and category ids --coco takes, matched by file name and class",
    )
    results.add_argument(
        "--save-crops", type=path, nargs="?", const=True, metavar="DIR", help="save a transparent PNG of every instance"
    )
    results.add_argument("--codec", choices=tuple(CODECS), default=DEFAULT_CODEC, help="codec of saved videos")
    results.add_argument(
        "--track",
        action="store_true",
        help="track instances through videos and cameras: each keeps its ID, and distinct ones are counted",
    )
    results.add_argument(
        "--zone",
        action="append",
        type=_shape(Zone.parse),
        default=[],
        metavar="NAME=X,Y,X,Y,...",
        help="count what is in a polygon by its masks, and the share of it that they cover; corners in pixels, or in "
        "fractions of the frame if all are from 0 to 1; NAME:CLASS,CLASS=... for some classes; with --track also who "
        "enters, leaves and stays how long; may be repeated",
    )
    results.add_argument(
        "--line",
        action="append",
        type=_shape(Line.parse),
        default=[],
        metavar="NAME=X,Y,X,Y",
        help="count tracks that cross a line, in either direction: in is to the right of who walks from the first "
        "point to the second; needs --track; may be repeated",
    )
    results.add_argument("--stats", type=path, metavar="FILE", help="save the time of every stage as JSON")

    drawing = parser.add_argument_group("drawing")
    drawing.add_argument(
        "--color",
        choices=COLORS,
        default="auto",
        help="color instances by class, by place from left to right (instance) or by track ID; auto: track with "
        "--track, else class if the model has several classes, else instance",
    )
    drawing.add_argument("--no-labels", action="store_true", help="draw no labels")
    drawing.add_argument("--masks-only", action="store_true", help="draw neither outlines nor labels")

    page = parser.add_argument_group("live page")
    page.add_argument(
        "--serve",
        type=_page_address,
        metavar="PORT",
        help="show the picture on a web page instead of in a window: PORT for this machine only, HOST:PORT for others "
        "(0.0.0.0:8000 for every machine that can reach this one), who need the token that is printed; a clip that is "
        f"not saved starts with the first viewer, still images are shown for {STILL_SECONDS:g} s",
    )
    page.add_argument("--serve-token", metavar="TOKEN", help="token of the page (default: random)")

    batch = parser.add_argument_group("batches")
    batch.add_argument(
        "--save-dir",
        type=path,
        metavar="DIR",
        help="save the results of every input here, each under its own name; re-run the same command to resume",
    )
    batch.add_argument(
        "--jobs",
        type=count,
        metavar="N",
        help=f"videos at the same time (default 1; with --engine ray up to {MAX_WORKERS})",
    )
    batch.add_argument(
        "--engine",
        choices=(LOCAL, RAY),
        default=LOCAL,
        help="where to run the model: here, or on the running Ray cluster, whose nodes must see the inputs under the "
        "same path; --threads is then per task (default 1)",
    )
    batch.add_argument("--no-annotate", action="store_true", help="save no annotated copies")

    model = parser.add_argument_group("model")
    model.add_argument(
        "--threshold",
        type=share,
        metavar="S",
        help="leave out instances with a lower score (default: the one that the model file recommends)",
    )
    model.add_argument(
        "--model",
        metavar="NAME_OR_FILE",
        help=f"{', '.join(SHIPPED_MODELS)} or an ONNX file (default {DEFAULT_MODEL}); NAME-int8 or NAME-fp32 forces a "
        "precision instead of the one that suits the processor",
    )
    model.add_argument(
        "--provider", default=AUTO, metavar="P", help=f"execution provider: {', '.join(provider_names())}"
    )
    model.add_argument(
        "--threads", type=whole(1, MAX_THREADS), metavar="N", help="inference threads (default: physical cores)"
    )
    model.add_argument(
        "--tiles",
        type=whole(1, MAX_TILES),
        default=1,
        metavar="N",
        help="also run the model on N x N overlapping tiles of each frame and merge duplicate detections: small "
        f"objects appear larger; takes N * N + 1 times as long; up to {MAX_TILES}",
    )

    camera = parser.add_argument_group("cameras")
    camera.add_argument("--camera-size", type=size, metavar="WxH", help="picture size to request of a camera device")
    camera.add_argument("--camera-fps", type=positive, metavar="F", help="frames per second to request of it")
    camera.add_argument(
        "--reconnect",
        type=seconds,
        default=math.inf,
        metavar="S",
        help="seconds to try to reopen a lost camera or stream (default: forever); 0 to stop at once",
    )

    parser.add_argument("--limit", type=count, metavar="N", help="stop after N frames")
    parser.add_argument("--no-show", action="store_true", help="open no window")
    return parser


def _shape(parse: Callable[[str], Shape]) -> Callable[[str], Shape]:
    def parsed(text: str) -> Shape:
        try:
            return parse(text)
        except OptionError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parsed


def _page_address(text: str) -> PageAddress:
    try:
        return PageAddress.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _check(arguments: argparse.Namespace) -> None:
    def refuse(wrong: object, message: str) -> None:
        if wrong:
            raise PumpsegError(message)

    check_names([*arguments.zone, *arguments.line])
    refuse(arguments.line and not arguments.track, "--line counts tracks: it goes with --track")
    batch = arguments.save_dir is not None
    refuse(arguments.stats == STANDARD_OUTPUT, "--stats cannot go to standard output")
    token = arguments.serve_token
    refuse(
        token is not None and not (token and arguments.serve), "--serve-token goes with --serve and must not be empty"
    )
    refuse(arguments.color == "track" and not arguments.track, "--color track goes with --track")
    refuse(batch and arguments.serve, "--serve shows one source, so it does not go with --save-dir")
    refuse(batch and arguments.save, "--save and --save-dir exclude each other: one result, or one for each input")
    refuse(batch and (arguments.limit or arguments.coco_truth), "--limit and --coco-truth do not go with --save-dir")
    batch_only = arguments.jobs or arguments.no_annotate or arguments.engine == RAY
    refuse(batch_only and not batch, "--jobs, --no-annotate and --engine ray go with --save-dir")
    refuse(arguments.coco_truth and arguments.coco is None, "--coco-truth goes with --coco FILE")
    for option in ("--json", "--coco", "--save-crops"):
        value = getattr(arguments, option.strip("-").replace("-", "_"))
        name = "with --save-dir every input has its own results, so {} takes no name, not {}; name the sources first"
        refuse(batch and isinstance(value, Path), name.format(option, value))
        refuse(not batch and value is True, f"{option} needs a name, except with --save-dir")
        refuse(option != "--json" and value == STANDARD_OUTPUT, f"{option} cannot go to standard output")
