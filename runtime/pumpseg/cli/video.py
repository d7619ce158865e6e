"""The command `pumpseg-video`: cameras, videos or images in; a window, annotated files or JSON out."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

from pumpseg.atomic_file import PartialFile, check_names
from pumpseg.batch import run as batch
from pumpseg.batch.ray_engine import RayEngine
from pumpseg.batch.report import batch_table
from pumpseg.cli.arguments import count, positive, seconds, share, size, whole
from pumpseg.cli.command import FAILED, INTERRUPTED, USAGE_ERROR, CommandParser, run_command
from pumpseg.cli.progress import BatchProgress, Progress
from pumpseg.errors import PumpsegError
from pumpseg.inference.cpu import physical_cores
from pumpseg.inference.model_file import DEFAULT_MODEL, SHIPPED_MODELS
from pumpseg.inference.providers import AUTO, MAX_THREADS, PROVIDERS, provider_names
from pumpseg.inference.tiles import MAX_TILES
from pumpseg.segmenter import Segmenter
from pumpseg.video.pipeline import process
from pumpseg.video.sinks.json import CocoIds
from pumpseg.video.sinks.open import STANDARD_OUTPUT, Outputs, open_sinks
from pumpseg.video.sinks.video import CODECS, DEFAULT_CODEC
from pumpseg.video.sources.capture import CameraSettings
from pumpseg.video.sources.open import find_files, is_file_like, open_sources
from pumpseg.video.tracking import tracker_of
from pumpseg.video.viewers.live_page import STILL_SECONDS, LivePage, PageAddress
from pumpseg.video.viewers.window import OpenCvWindow, screen_problem

PROGRAM = "pumpseg-video"
HERE, RAY = "local", "ray"

# One thread a frame wastes nothing on waiting for others, but every frame under way takes memory of its own.
MAX_WORKERS = 8

_Handler = Callable[[int, FrameType | None], Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns its exit code: 0, 1 if some inputs failed, 2 after an error told in one line, 130 if interrupted.
    """
    # Until frames flow a signal ends the command at once, and what was begun is cleaned up on the way out.
    with _log_lines(), _signals(signal.default_int_handler):
        try:
            return run_command(PROGRAM, lambda: _run(_parser().parse_args(argv)))
        finally:
            _let_go_of_stdout()


def _run(arguments: argparse.Namespace) -> int:
    _check(arguments)
    stats = None if arguments.stats is None else PartialFile(arguments.stats)
    try:
        code, figures = _run_batch(arguments) if arguments.save_dir is not None else _run_one(arguments)
        if stats is not None:
            with stats.completed() as path:
                path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        return code
    finally:
        if stats is not None:
            stats.discard()


def _run_one(arguments: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    stop = threading.Event()
    outputs = Outputs(
        save=arguments.save,
        json_lines=_named("--json", arguments.json),
        coco=_named("--coco", arguments.coco),
        coco_ids=CocoIds.read(arguments.coco_truth) if arguments.coco_truth else None,
        crops=_named("--save-crops", arguments.save_crops),
        codec=arguments.codec,
    )
    wish = CameraSettings(arguments.camera_size, arguments.camera_fps)
    source = open_sources(arguments.sources, wish=wish, patience=arguments.reconnect)
    try:
        tracker = tracker_of(source) if arguments.track else None
        threads = arguments.threads or physical_cores() or os.cpu_count() or 1
        workers = 1 if source.live else min(threads, MAX_WORKERS)
        segmenter = _segmenter(arguments, threads - workers + 1)
        workers = min(workers, _most_workers(segmenter.provider))
        sinks = open_sinks(
            source,
            outputs,
            segmenter.info.class_names,
            also_written=_stats(arguments),
            also_read=[segmenter.path, *_also_read(arguments)],
        )
        try:
            window = _open_window(arguments, stop)
        except BaseException:
            for sink in sinks:
                sink.discard()
            raise
        total = source.length
        progress = Progress(min(total or math.inf, arguments.limit) if arguments.limit else total)
        with _signals(_stop_then_interrupt(stop)):
            try:
                if isinstance(window, LivePage) and not (sinks or source.live):
                    # What is only watched would be over before the browser is open.
                    window.wait_for_viewer()
                summary = process(
                    source,
                    segmenter,
                    sinks,
                    workers=workers,
                    tracker=tracker,
                    window=window,
                    limit=arguments.limit,
                    stop=stop,
                    on_frame=progress.update,
                )
            finally:
                progress.clear()
    finally:
        source.close()
    print(f"{PROGRAM}: {'interrupted after ' if summary.interrupted else ''}{summary}", file=sys.stderr)
    code = INTERRUPTED if summary.interrupted else FAILED if summary.failed else 0
    return code, {"source": source.name, **summary.to_json()}


def _run_batch(arguments: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    stop = threading.Event()
    files = find_files(arguments.sources, arguments.save_dir)
    threads = arguments.threads or physical_cores() or os.cpu_count() or 1
    jobs = arguments.jobs or 1
    workers = max(1, min(threads, MAX_WORKERS) // jobs)
    segmenter = _segmenter(arguments, max(1, threads - workers * jobs + 1))
    workers = min(workers, _most_workers(segmenter.provider))
    check_names(_stats(arguments), [segmenter.path, *(file.path for file in files), *_also_read(arguments)])
    options = batch.BatchOptions(
        annotate=not arguments.no_annotate,
        json_lines=arguments.json is not None,
        coco=arguments.coco is not None,
        crops=arguments.save_crops is not None,
        codec=arguments.codec,
        track=arguments.track,
    )
    engine = None
    if arguments.engine == RAY:
        engine = RayEngine(segmenter, provider=arguments.provider, threads=arguments.threads or 1, stop=stop)
        # Reading and writing for the cluster, in so many inputs at once that it has work.
        jobs, workers = arguments.jobs or min(engine.slots, MAX_WORKERS), 2
    progress = BatchProgress(len(files))
    with _signals(_stop_then_interrupt(stop)):
        try:
            outcomes = batch.run_batch(
                files,
                arguments.save_dir,
                segmenter,
                options,
                jobs=jobs,
                workers=workers,
                stop=stop,
                engine=engine,
                on_start=lambda file, frames: progress.start(str(file.path), frames),
                on_frame=lambda file, done: progress.frame(str(file.path), done),
                on_outcome=lambda outcome: progress.end(str(outcome.path)),
            )
        finally:
            progress.clear()
            if engine is not None:
                engine.close()
    print(batch_table(outcomes), file=sys.stderr)
    failed = any(outcome.status == batch.FAILED for outcome in outcomes)
    code = INTERRUPTED if stop.is_set() else FAILED if failed else 0
    return code, {"inputs": [_outcome_figures(outcome) for outcome in outcomes]}


def _outcome_figures(outcome: batch.Outcome) -> dict[str, Any]:
    figures: dict[str, Any] = {"source": str(outcome.path), "status": outcome.status}
    if outcome.error:
        figures["error"] = outcome.error
    return figures | (outcome.summary.to_json() if outcome.summary else {})


def _most_workers(provider: str) -> int:
    # A GPU does one frame after another: while it does, another is uploaded or sorted out, and more would only wait.
    return 2 if PROVIDERS[provider].device else MAX_WORKERS


def _segmenter(arguments: argparse.Namespace, threads: int) -> Segmenter:
    # Spinning threads would take the cores that decoding and encoding need.
    return Segmenter(
        arguments.model,
        provider=arguments.provider,
        threads=threads,
        threshold=arguments.threshold,
        tiles=arguments.tiles,
        allow_spinning=False,
    )


def _check(arguments: argparse.Namespace) -> None:
    """Raise PumpsegError for options that do not go together."""
    if arguments.stats == STANDARD_OUTPUT:
        raise PumpsegError("--stats cannot go to standard output")
    if arguments.serve_token is not None and (arguments.serve is None or not arguments.serve_token):
        raise PumpsegError("--serve-token goes with --serve and is not empty")
    if arguments.save_dir is not None:
        if arguments.serve is not None:
            raise PumpsegError("--serve shows one source, so it does not go with --save-dir")
        if arguments.save is not None:
            raise PumpsegError("--save and --save-dir exclude each other: one result, or one for each input")
        for option, value in (
            ("--json", arguments.json),
            ("--coco", arguments.coco),
            ("--save-crops", arguments.save_crops),
        ):
            if isinstance(value, Path):
                raise PumpsegError(
                    f"with --save-dir every input has results of its own, so {option} takes no name, not {value}; "
                    "name the sources first"
                )
        if arguments.limit or arguments.coco_truth:
            raise PumpsegError("--limit and --coco-truth do not go with --save-dir")
        return
    if arguments.jobs or arguments.no_annotate or arguments.engine == RAY:
        raise PumpsegError("--jobs, --no-annotate and --engine ray go with --save-dir")
    if arguments.coco_truth and arguments.coco is None:
        raise PumpsegError("--coco-truth goes with --coco FILE")
    for option, value in (("--coco", arguments.coco), ("--save-crops", arguments.save_crops)):
        if value == STANDARD_OUTPUT:
            raise PumpsegError(f"{option} cannot go to standard output")


def _stats(arguments: argparse.Namespace) -> list[Path]:
    return [] if arguments.stats is None else [arguments.stats]


def _also_read(arguments: argparse.Namespace) -> list[Path]:
    """Files that are read besides the images and videos: lists of them, and the data set of --coco-truth."""
    named = [Path(name) for name in arguments.sources if is_file_like(name)]
    return [*(path for path in named if path.is_file()), *filter(None, [arguments.coco_truth])]


def _named(option: str, value: Path | bool | None) -> Path | None:
    if value is True:
        raise PumpsegError(f"{option} needs a name here; only with --save-dir are the names given")
    return value or None


def _open_window(arguments: argparse.Namespace, stop: threading.Event) -> OpenCvWindow | LivePage | None:
    if arguments.serve is not None:
        page = LivePage(arguments.serve, stop, arguments.serve_token)
        print(f"{PROGRAM}: the picture is at {page.url}", file=sys.stderr, flush=True)
        return page
    if arguments.no_show:
        return None
    problem = screen_problem()
    if problem:
        print(f"{PROGRAM}: going on without a window: {problem}; --serve 8000 shows a web page", file=sys.stderr)
        return None
    return OpenCvWindow(PROGRAM, stop)


def _stop_then_interrupt(stop: threading.Event) -> _Handler:
    """A handler whose first signal lets the files be completed and whose second interrupts at once."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    return handle


@contextlib.contextmanager
def _signals(handler: _Handler) -> Iterator[None]:
    """Handle Ctrl-C, SIGTERM and a terminal that closes with `handler` for a while; only a main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    # Ignored on purpose under nohup.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


@contextlib.contextmanager
def _log_lines() -> Iterator[None]:
    """Show what the package logs as plain lines on stderr."""
    logger = logging.getLogger("pumpseg")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"{PROGRAM}: %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _let_go_of_stdout() -> None:
    """Where the reader of standard output is gone, keep Python from complaining about it once more at its exit."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        PROGRAM,
        description="Find instances in a camera's picture, videos or images, and mark them.",
        epilog=f"exit code: 0; 1 if some inputs failed; {USAGE_ERROR} after an error; {INTERRUPTED} if interrupted",
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="webcam, webcam:N, /dev/videoN, demo, an rtsp:// or http:// URL, a video, images, a folder, "
        "a 'pattern*.mp4', or a .txt list of files",
    )

    results = parser.add_argument_group("results")
    results.add_argument(
        "--save",
        type=Path,
        metavar="FILE",
        help="annotated: a video or image file, a folder for several images or the frames of a video, "
        "or - for raw frames on standard output",
    )
    results.add_argument(
        "--json",
        type=Path,
        nargs="?",
        const=True,
        metavar="FILE",
        help="one JSON object a frame, masks as COCO RLE; - for standard output",
    )
    results.add_argument("--coco", type=Path, nargs="?", const=True, metavar="FILE", help="COCO results json")
    results.add_argument(
        "--coco-truth",
        type=Path,
        metavar="FILE",
        help="COCO json that gives the image and category ids of --coco, by file name and class",
    )
    results.add_argument(
        "--save-crops", type=Path, nargs="?", const=True, metavar="DIR", help="a transparent PNG of every instance"
    )
    results.add_argument(
        "--codec", choices=tuple(CODECS), default=DEFAULT_CODEC, help=f"of saved videos (default {DEFAULT_CODEC})"
    )
    results.add_argument(
        "--track",
        action="store_true",
        help="give instances of videos and cameras ids that stay with them, and count the distinct ones",
    )
    results.add_argument("--stats", type=Path, metavar="FILE", help="what every stage took, as JSON")

    page = parser.add_argument_group("page")
    page.add_argument(
        "--serve",
        type=_page_address,
        metavar="PORT",
        help="a live page for browsers instead of a window: PORT on this machine, HOST:PORT elsewhere (0.0.0.0:8000 "
        "for all who can reach this machine), where it takes the token that is printed; clips start with the first "
        f"viewer if nothing is saved, stills stay for {STILL_SECONDS:g} s",
    )
    page.add_argument("--serve-token", metavar="TOKEN", help="the token that the page takes (default: made up anew)")

    many = parser.add_argument_group("batches")
    many.add_argument(
        "--save-dir",
        type=Path,
        metavar="DIR",
        help="results of their own for every input, here; the same line again goes on after an interruption",
    )
    many.add_argument(
        "--jobs",
        type=count,
        metavar="N",
        help=f"videos at the same time (default 1; with --engine ray up to {MAX_WORKERS})",
    )
    many.add_argument(
        "--engine",
        choices=(HERE, RAY),
        default=HERE,
        help="where instances are found: here, or on the Ray cluster that is running, whose nodes must see the inputs "
        "under the same path; --threads are then those of a task (default 1)",
    )
    many.add_argument("--no-annotate", action="store_true", help="write no annotated copies")

    model = parser.add_argument_group("model")
    model.add_argument(
        "--threshold", type=share, default=0.5, metavar="S", help="leave out instances below it (default 0.5)"
    )
    model.add_argument(
        "--model",
        metavar="NAME_OR_FILE",
        help=f"{', '.join(SHIPPED_MODELS)} or an ONNX file (default {DEFAULT_MODEL}); with -int8 or -fp32 after a "
        "name, that precision instead of what suits the processor",
    )
    model.add_argument(
        "--provider",
        default=AUTO,
        metavar="P",
        help=f"execution provider: {', '.join(provider_names())} (default {AUTO})",
    )
    model.add_argument(
        "--threads",
        type=whole(1, MAX_THREADS),
        metavar="N",
        help="of inference (default: physical cores)",
    )
    model.add_argument(
        "--tiles",
        type=whole(1, MAX_TILES),
        default=1,
        metavar="N",
        help=f"also look at N x N overlapping windows of every frame, for many small things; N * N + 1 times as slow; "
        f"up to {MAX_TILES}",
    )

    camera = parser.add_argument_group("cameras")
    camera.add_argument("--camera-size", type=size, metavar="WxH", help="picture to ask a camera device for")
    camera.add_argument("--camera-fps", type=positive, metavar="F", help="frames a second to ask it for")
    camera.add_argument(
        "--reconnect",
        type=seconds,
        default=math.inf,
        metavar="S",
        help="seconds to try to get a lost camera or stream back (default: for ever); 0 to stop at once",
    )

    parser.add_argument("--limit", type=count, metavar="N", help="stop after N frames")
    parser.add_argument("--no-show", action="store_true", help="open no window")
    parser.add_argument("--version", action="version", version=f"pumpseg {version('pumpseg')}")
    return parser


def _page_address(text: str) -> PageAddress:
    try:
        return PageAddress.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
