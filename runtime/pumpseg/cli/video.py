"""The command `pumpseg-video`: cameras, videos or images in; a window, annotated files or JSON out."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pumpseg.atomic_file import check_names, complete_file
from pumpseg.batch.ray_engine import RayEngine
from pumpseg.batch.report import batch_table
from pumpseg.batch.run import FAILED as INPUT_FAILED
from pumpseg.batch.run import BatchOptions, Outcome, run_batch
from pumpseg.cli.command import FAILED, INTERRUPTED, run_command
from pumpseg.cli.interrupt import interrupt_handler
from pumpseg.cli.process import handle_signals, log_lines, stop_then_interrupt
from pumpseg.cli.progress import BatchProgress, Progress
from pumpseg.cli.video_arguments import PROGRAM, RAY, parse_arguments
from pumpseg.cli.video_arguments import make_parser as make_parser
from pumpseg.inference.threads import MAX_WORKERS, plan_threads
from pumpseg.segmenter import Segmenter
from pumpseg.video.pipeline import process
from pumpseg.video.result import Style, Viewer
from pumpseg.video.sinks.json import CocoIds
from pumpseg.video.sinks.open import Outputs, check_outputs, open_sinks
from pumpseg.video.sources.capture import CameraSettings
from pumpseg.video.sources.files import find_files, is_file_like
from pumpseg.video.sources.open import open_source
from pumpseg.video.tracking import tracker_of
from pumpseg.video.viewers.live_page import LivePage
from pumpseg.video.viewers.window import OpenCvWindow, screen_problem
from pumpseg.zones.counter import ZoneCounter
from pumpseg.zones.shapes import Shape, check_classes

Figures = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns its exit code: 0, 1 if some inputs failed, 2 after an error, which is printed in one line, 130 if
    interrupted.
    """
    # Until frames flow a signal ends the command at once, and what was begun is cleaned up on the way out.
    with handle_signals(interrupt_handler(PROGRAM)):
        return run_command(PROGRAM, lambda: _run(parse_arguments(argv)))


def _run(arguments: argparse.Namespace) -> int:
    with (
        log_lines(PROGRAM),
        contextlib.nullcontext() if arguments.stats is None else complete_file(arguments.stats) as stats,
    ):
        code, figures = _run_one(arguments) if arguments.save_dir is None else _run_batch(arguments)
        if stats is not None:
            stats.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return code


def _run_one(arguments: argparse.Namespace) -> tuple[int, Figures]:
    outputs = Outputs(
        save=arguments.save,
        json_lines=arguments.json,
        coco=arguments.coco,
        coco_ids=CocoIds.read(arguments.coco_truth) if arguments.coco_truth else None,
        crops=arguments.save_crops,
        codec=arguments.codec,
    )
    stop = threading.Event()
    camera = CameraSettings(arguments.camera_size, arguments.camera_fps)
    with contextlib.ExitStack() as opened:
        source = opened.enter_context(
            open_source(*arguments.sources, camera=camera, reconnect_timeout=arguments.reconnect)
        )
        check_outputs(source, outputs)
        tracker = tracker_of(source) if arguments.track else None
        plan = plan_threads(arguments.threads, live=source.live)
        segmenter = _segmenter(arguments, plan.threads)
        shapes = _shapes(arguments, segmenter)
        sinks = opened.enter_context(
            open_sinks(
                source,
                outputs,
                segmenter.info.class_names,
                also_written=_stats(arguments),
                also_read=[segmenter.path, *_also_read(arguments)],
            )
        )
        viewer = _open_viewer(arguments, stop, opened)
        limits = [limit for limit in (source.length, arguments.limit) if limit]
        opened.enter_context(handle_signals(stop_then_interrupt(stop)))
        if isinstance(viewer, LivePage) and not (sinks or source.live):
            # A clip that is only watched would be over before the browser is open.
            viewer.wait_for_browser()
        progress = opened.enter_context(Progress(min(limits, default=None)))
        summary = process(
            source,
            segmenter.infer,
            sinks,
            workers=plan.workers_on(segmenter.provider),
            tracker=tracker,
            zones=ZoneCounter(shapes) if shapes else None,
            style=_style(arguments),
            viewer=viewer,
            limit=arguments.limit,
            stop=stop,
            on_frame=progress.update,
        )
    print(f"{PROGRAM}: {'interrupted after ' if summary.interrupted else ''}{summary}", file=sys.stderr)
    code = INTERRUPTED if summary.interrupted else FAILED if summary.failed else 0
    return code, {"source": source.name, **summary.to_json()}


def _run_batch(arguments: argparse.Namespace) -> tuple[int, Figures]:
    files = find_files(arguments.sources, arguments.save_dir)
    stop = threading.Event()
    jobs = arguments.jobs or 1
    plan = plan_threads(arguments.threads, jobs=jobs)
    segmenter = _segmenter(arguments, plan.threads)
    options = BatchOptions(
        annotate=not arguments.no_annotate,
        json_lines=arguments.json is not None,
        coco=arguments.coco is not None,
        crops=arguments.save_crops is not None,
        codec=arguments.codec,
        track=arguments.track,
        shapes=_shapes(arguments, segmenter),
        style=_style(arguments),
    )
    workers = plan.workers_on(segmenter.provider)
    check_names(_stats(arguments), [segmenter.path, *(file.path for file in files), *_also_read(arguments)])
    with contextlib.ExitStack() as opened:
        engine = None
        if arguments.engine == RAY:
            engine = RayEngine(segmenter, provider=arguments.provider, threads=arguments.threads or 1, stop=stop)
            opened.enter_context(engine)
            # This machine reads and writes for the cluster: enough inputs at a time to keep it busy.
            jobs, workers = arguments.jobs or min(engine.slots, MAX_WORKERS), 2
        progress = opened.enter_context(BatchProgress(len(files)))
        opened.enter_context(handle_signals(stop_then_interrupt(stop)))
        outcomes = run_batch(
            files,
            arguments.save_dir,
            segmenter,
            options,
            jobs=jobs,
            workers=workers,
            stop=stop,
            engine=engine,
            observer=progress,
        )
    print(batch_table(outcomes), file=sys.stderr)
    failed = any(outcome.status == INPUT_FAILED for outcome in outcomes)
    code = INTERRUPTED if stop.is_set() else FAILED if failed else 0
    return code, {"inputs": [_outcome_figures(outcome) for outcome in outcomes]}


def _outcome_figures(outcome: Outcome) -> Figures:
    figures: Figures = {"source": str(outcome.path), "status": outcome.status}
    if outcome.error:
        figures["error"] = outcome.error
    return figures | (outcome.summary.to_json() if outcome.summary else {})


def _segmenter(arguments: argparse.Namespace, threads: int) -> Segmenter:
    return Segmenter(
        arguments.model,
        provider=arguments.provider,
        threads=threads,
        threshold=arguments.threshold,
        tiles=arguments.tiles,
        allow_spinning=False,  # spinning threads would take the cores that decoding and encoding need
    )


def _shapes(arguments: argparse.Namespace, segmenter: Segmenter) -> tuple[Shape, ...]:
    """The zones and lines that were asked for, all of whose classes the model has."""
    shapes = (*arguments.zone, *arguments.line)
    check_classes(shapes, segmenter.class_names)
    return shapes


def _style(arguments: argparse.Namespace) -> Style:
    return Style(arguments.color, labels=not arguments.no_labels, masks_only=arguments.masks_only)


def _stats(arguments: argparse.Namespace) -> list[Path]:
    return [] if arguments.stats is None else [arguments.stats]


def _also_read(arguments: argparse.Namespace) -> list[Path]:
    """Files that are read besides the images and videos: lists of them, and the data set of --coco-truth."""
    named = [Path(name) for name in arguments.sources if is_file_like(name)]
    return [*(path for path in named if path.is_file()), *filter(None, [arguments.coco_truth])]


def _open_viewer(arguments: argparse.Namespace, stop: threading.Event, opened: contextlib.ExitStack) -> Viewer | None:
    """The page or window that was asked for, closed with `opened`; None without a screen."""
    if arguments.serve is not None:
        page = opened.enter_context(LivePage(arguments.serve, stop, arguments.serve_token))
        print(f"{PROGRAM}: live page: {page.url}", file=sys.stderr, flush=True)
        return page
    if arguments.no_show:
        return None
    problem = screen_problem()
    if problem:
        print(f"{PROGRAM}: continuing without a window: {problem}; --serve 8000 shows a web page", file=sys.stderr)
        return None
    return opened.enter_context(OpenCvWindow(PROGRAM, stop))


if __name__ == "__main__":
    sys.exit(main())
