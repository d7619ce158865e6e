"""Many files, one after another or several at once, each with results of its own, resumable."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pumpseg.batch.folder_lock import LOCK, locked_folder
from pumpseg.batch.manifest import MANIFEST, Entry, Fingerprint, Manifest, output_sizes
from pumpseg.errors import PumpsegError, SinkError, SourceError, first_line
from pumpseg.images import image_name
from pumpseg.segmenter import Segmenter
from pumpseg.video.pipeline import InferFn, process
from pumpseg.video.result import DEFAULT_STYLE, Style
from pumpseg.video.sinks.open import Outputs, open_sinks
from pumpseg.video.sinks.video import DEFAULT_CODEC, VIDEO_FORMATS
from pumpseg.video.sources.files import InputFile, check_file
from pumpseg.video.sources.frame_source import Source
from pumpseg.video.sources.images import ImageSource
from pumpseg.video.sources.open import open_video
from pumpseg.video.sources.video_file import WHOLE, Section
from pumpseg.video.stats import Summary
from pumpseg.video.tracking import Tracker, tracker_of
from pumpseg.zones.counter import ZoneCounter
from pumpseg.zones.shapes import Shape, Zone

log = logging.getLogger("pumpseg")

DONE, SKIPPED, FAILED, STOPPED = "done", "skipped", "failed", "stopped"


@dataclass(frozen=True)
class BatchOptions:
    """What is written for each input: annotated copies, JSON lines, COCO results, crops.

    codec: of videos. track: whether instances of videos get track ids. shapes: zones and lines to count in every input;
    images have no lines. style: of the annotated copies.
    """

    annotate: bool = True
    json_lines: bool = False
    coco: bool = False
    crops: bool = False
    codec: str = DEFAULT_CODEC
    track: bool = False
    shapes: tuple[Shape, ...] = ()
    style: Style = DEFAULT_STYLE

    def outputs(self, file: InputFile, folder: Path) -> Outputs:
        """Where the results of an input go."""
        place = folder / file.place
        # The whole name is kept, since a photo and a clip may share a stem: IMG_1.jpg.jsonl, IMG_1.mov.jsonl.
        if file.is_image:
            annotated = place.with_name(image_name(file.path))
        else:
            annotated = place if file.path.suffix.lower() in VIDEO_FORMATS else _named(place, ".mp4")
        return Outputs(
            save=annotated if self.annotate else None,
            json_lines=_named(place, ".jsonl") if self.json_lines else None,
            coco=_named(place, ".coco.json") if self.coco else None,
            crops=_named(place, ".crops") if self.crops else None,
            codec=self.codec,
        )


@dataclass(frozen=True)
class Outcome:
    """What became of an input. status: DONE, SKIPPED (was done before), FAILED or STOPPED (by the user).

    summary: of a run that was done; frames and instances are also known of an input that was skipped.
    error: why the input failed.
    """

    path: Path
    status: str
    frames: int = 0
    instances: int = 0
    summary: Summary | None = None
    error: str = ""


class Engine(Protocol):
    """Infers the instances of inputs elsewhere than in the segmenter given; see ray_engine.py."""

    def inference(self, file: InputFile) -> AbstractContextManager[InferFn]: ...


class BatchObserver:
    """Is called from the threads of the jobs as inputs are processed; a base class whose methods do nothing."""

    def start(self, file: InputFile, frames: int | None) -> None:
        """An input was opened. frames: its number of frames, None if unknown."""

    def frame(self, file: InputFile, done: int) -> None:
        """`done` frames of an input are done."""

    def end(self, outcome: Outcome) -> None:
        """An input is done, or failed, or was skipped."""


def run_batch(
    files: Sequence[InputFile],
    folder: Path,
    segmenter: Segmenter,
    options: BatchOptions = BatchOptions(),
    *,
    jobs: int = 1,
    workers: int = 1,
    stop: threading.Event | None = None,
    engine: Engine | None = None,
    observer: BatchObserver | None = None,
) -> list[Outcome]:
    """Segment every file into `folder`; files that an earlier run finished there are skipped.

    An input is finished if the manifest lists it, and the file, the settings and its outputs have not changed since.
    A failing input does not stop the batch. jobs: videos at the same time. workers: see `stream`; images,
    which come first, are processed jobs x workers at a time. engine: infers in the segmenter's place.
    stop: completes the inputs in progress as interrupted ones, which the next run repeats, and leaves the rest.

    Raises PumpsegError if tracking is not installed but asked for, SinkError if two inputs would have the same results
    or the folder cannot be written.
    """
    if options.track:
        Tracker()  # fails here if its package is missing
    _check_places({file: options.outputs(file, folder) for file in files})
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"cannot make the folder {folder}: {error.strerror}") from None
    settings = {
        "threshold": segmenter.threshold,
        "tiles": segmenter.tiles,
        "model": Fingerprint.of(segmenter.path).sha256,
        "codec": options.codec,
        "track": options.track,
        "outputs": [name for name in ("annotate", "json_lines", "coco", "crops") if getattr(options, name)],
        **asdict(options.style),
    }
    if options.shapes:
        settings["shapes"] = [repr(shape) for shape in options.shapes]
    stop, observer = stop or threading.Event(), observer or BatchObserver()
    outcomes: dict[InputFile, Outcome] = {}
    with locked_folder(folder):
        batch = _Batch(folder, segmenter, options, workers, stop, engine, observer, Manifest(folder), settings)
        for group, at_once in (
            ([file for file in files if file.is_image], jobs * workers),
            ([file for file in files if not file.is_image], jobs),
        ):
            with ThreadPoolExecutor(at_once, thread_name_prefix="pumpseg-job") as pool:
                outcomes.update(zip(group, pool.map(batch.run, group), strict=True))
    return [outcomes[file] for file in files]


@dataclass(frozen=True)
class _Batch:
    """What the jobs of a batch share."""

    folder: Path
    segmenter: Segmenter
    options: BatchOptions
    workers: int
    stop: threading.Event
    engine: Engine | None
    observer: BatchObserver
    manifest: Manifest
    settings: Mapping[str, Any]
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, file: InputFile) -> Outcome:
        """Process one input, in any thread, unless it is done or the batch was stopped."""
        try:
            outcome = self._outcome(file)
        except BaseException:
            # A bug of ours ends the batch: the other jobs must not continue in the background.
            self.stop.set()
            raise
        self.observer.end(outcome)
        return outcome

    def _outcome(self, file: InputFile) -> Outcome:
        if self.stop.is_set():
            return Outcome(file.path, STOPPED)
        try:
            check_file(file.path)
            entry = self.manifest.is_done(file.path, self.settings)
            if entry is not None:
                return Outcome(file.path, SKIPPED, entry.frames, entry.instances)
            fingerprint = Fingerprint.of(file.path)
            outputs = self.options.outputs(file, self.folder)
            summary, written = self._segment(file, outputs)
            if not summary.interrupted:
                sizes = output_sizes(self.folder, outputs.paths)
                if len(sizes) != written:
                    raise SinkError(f"{written} files were written, {len(sizes)} are there: {self.folder} was changed")
                entry = Entry(fingerprint, self.settings, sizes, summary.frames, summary.instances)
                with self.lock:
                    self.manifest.add(file.path, entry)
        except (PumpsegError, OSError) as error:
            return Outcome(file.path, FAILED, error=str(error))
        except Exception as error:
            # Whatever a file provokes in the libraries that read it, in the model or in us: the others are to be done.
            log.debug("%s failed", file.path, exc_info=True)
            return Outcome(file.path, FAILED, error=f"{file.path}: {type(error).__name__}: {first_line(error)}")
        status = STOPPED if summary.interrupted else DONE
        return Outcome(file.path, status, summary.frames, summary.instances, summary)

    def _segment(self, file: InputFile, outputs: Outputs) -> tuple[Summary, int]:
        """What became of an input that is to be processed, and the number of files written."""
        with open_input(file) as source:
            for path in outputs.paths:
                path.parent.mkdir(parents=True, exist_ok=True)
            if outputs.crops is not None and outputs.crops.is_dir():
                # An earlier, interrupted run may have left more crops than there are now.
                shutil.rmtree(outputs.crops)
            tracker = tracker_of(source) if self.options.track and source.timing is not None else None
            shapes = [shape for shape in self.options.shapes if isinstance(shape, Zone) or tracker is not None]
            try:
                with open_sinks(source, outputs, self.segmenter.info.class_names) as sinks:
                    self.observer.start(file, source.length)
                    with self._inference(file) as infer:
                        summary = process(
                            source,
                            infer,
                            sinks,
                            workers=self.workers,
                            tracker=tracker,
                            zones=ZoneCounter(shapes) if shapes else None,
                            style=self.options.style,
                            stop=self.stop,
                            on_frame=lambda done: self.observer.frame(file, done),
                        )
                return summary, sinks.files
            except SourceError:
                raise  # the frames before the source failed are complete
            except BaseException:
                if outputs.crops is not None:
                    # Each crop is complete, but some are missing, and on a full disk they take other inputs' room.
                    shutil.rmtree(outputs.crops, ignore_errors=True)
                raise

    def _inference(self, file: InputFile) -> AbstractContextManager[InferFn]:
        return nullcontext(self.segmenter.infer) if self.engine is None else self.engine.inference(file)


def open_input(file: InputFile, section: Section = WHOLE) -> Source:
    """One input as a source; of a video only the frames of a section. Raises SourceError."""
    return ImageSource(str(file.path), [file.path]) if file.is_image else open_video(file.path, section)


def _named(place: Path, suffix: str) -> Path:
    return place.with_name(place.name + suffix)


def _check_places(planned: Mapping[InputFile, Outputs]) -> None:
    inputs = {os.path.realpath(file.path) for file in planned}
    owners: dict[str, InputFile] = {}
    for file, outputs in planned.items():
        for path in outputs.paths:
            if os.path.realpath(path) in inputs:
                raise SinkError(f"{path} is an input: choose another --save-dir")
            if path.name in (MANIFEST, LOCK):
                raise SinkError(f"{file.path}: its results would be named {path.name}, which is reserved: rename it")
            other = owners.setdefault(os.path.realpath(path), file)
            if other is not file:
                raise SinkError(
                    f"{other.path} and {file.path} would both be written to {path}: name the folder above them, "
                    "or a pattern with ** such as 'clips/**/*.mp4', to keep their sub-folders"
                )
