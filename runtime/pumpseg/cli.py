"""The command `pumpseg-video`: camera, video or images in; a window, an annotated file or JSON lines out."""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from pumpseg.display import OpenCvWindow, screen_problem
from pumpseg.errors import PumpsegError
from pumpseg.model_file import DEFAULT_MODEL, SHIPPED_MODELS
from pumpseg.pipeline import process
from pumpseg.progress import Progress
from pumpseg.providers import AUTO, provider_names
from pumpseg.segmenter import Segmenter
from pumpseg.sinks import open_sinks
from pumpseg.sources import open_source

PROGRAM = "pumpseg-video"
USAGE_ERROR = 2
INTERRUPTED = 130

_Handler = Callable[[int, FrameType | None], Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns its exit code: 0, 2 after an error told in one line, 130 if interrupted."""
    # Until frames flow a signal ends the command at once, and what was begun is cleaned up on the way out.
    with _log_lines(), _signals(signal.default_int_handler):
        try:
            return _run(_parser().parse_args(argv))
        except PumpsegError as error:
            print(f"{PROGRAM}: error: {error}", file=sys.stderr)
            return USAGE_ERROR
        except KeyboardInterrupt:
            print(f"{PROGRAM}: interrupted", file=sys.stderr)
            return INTERRUPTED


def _run(arguments: argparse.Namespace) -> int:
    stop = threading.Event()
    source = open_source(arguments.source)
    try:
        sinks = open_sinks(source, save=arguments.save, json_lines=arguments.json)
        try:
            # Spinning threads would take the cores that decoding and encoding need.
            segmenter = Segmenter(
                arguments.model,
                provider=arguments.provider,
                threads=arguments.threads,
                score=arguments.score,
                spinning=False,
            )
            window = _open_window(arguments, stop)
        except BaseException:
            for sink in sinks:
                sink.discard()
            raise
        progress = Progress(source.length)
        with _signals(_stop_then_interrupt(stop)):
            try:
                summary = process(source, segmenter, sinks, window=window, stop=stop, on_frame=progress.update)
            finally:
                progress.clear()
    finally:
        source.close()
    interrupted = "interrupted after " if summary.interrupted else ""
    print(f"{PROGRAM}: {interrupted}{summary}", file=sys.stderr)
    return INTERRUPTED if summary.interrupted else 0


def _open_window(arguments: argparse.Namespace, stop: threading.Event) -> OpenCvWindow | None:
    if arguments.no_show:
        return None
    problem = screen_problem()
    if problem:
        print(f"{PROGRAM}: going on without a window: {problem}", file=sys.stderr)
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
    """Handle Ctrl-C and SIGTERM with `handler` for a while; only a main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
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


class _Parser(argparse.ArgumentParser):
    """Tells a wrong option in one line, like every other error."""

    def error(self, message: str) -> NoReturn:
        raise PumpsegError(f"{message} (see {PROGRAM} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(PROGRAM, description="Find instances in a camera's picture, a video or images, and mark them.")
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="webcam, webcam:N, demo, an rtsp:// URL, a video, an image, a folder of images or a pattern",
    )
    parser.add_argument(
        "--save",
        type=Path,
        metavar="FILE",
        help="annotated result: a video, an image, or a folder when there are several images",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="one JSON object a frame, masks as COCO RLE")
    parser.add_argument(
        "--score", type=_score, default=0.5, metavar="S", help="leave out instances below it (default 0.5)"
    )
    parser.add_argument(
        "--model",
        metavar="NAME_OR_FILE",
        help=f"{', '.join(SHIPPED_MODELS)} or an ONNX file (default {DEFAULT_MODEL})",
    )
    parser.add_argument(
        "--provider",
        default=AUTO,
        metavar="P",
        help=f"execution provider: {', '.join(provider_names())} (default {AUTO})",
    )
    parser.add_argument(
        "--threads", type=_threads, metavar="N", help="threads of one inference (default: physical cores)"
    )
    parser.add_argument("--no-show", action="store_true", help="open no window")
    parser.add_argument("--version", action="version", version=f"pumpseg {version('pumpseg')}")
    return parser


def _score(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} does not lie in 0..1")
    return value


def _threads(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
