"""Many files, one after another or several at once, each into results of its own, resumable."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pumpseg.batch.manifest import MANIFEST, Entry, Fingerprint, Manifest, output_sizes
from pumpseg.errors import PumpsegError, SinkError, SourceError
from pumpseg.segmenter import Segmenter
from pumpseg.video.pipeline import Find, process
from pumpseg.video.sinks.open import Outputs, open_sinks
from pumpseg.video.sinks.video import DEFAULT_CODEC, VIDEO_FORMATS
from pumpseg.video.sources.frame_source import Source
from pumpseg.video.sources.images import ImageSource
from pumpseg.video.sources.open import InputFile
from pumpseg.video.sources.video_file import Section, VideoSource
from pumpseg.video.stats import Summary
from pumpseg.video.tracking import Tracker, tracker_of

log = logging.getLogger("pumpseg")

DONE, SKIPPED, FAILED, STOPPED = "done", "skipped", "failed", "stopped"


@dataclass(frozen=True)
class BatchOptions:
    """What is written for each input: annotated copies, JSON lines, COCO results, crops.

    codec: of videos. track: whether instances of videos get ids.
    """

    annotate: bool = True
    json_lines: bool = False
    coco: bool = False
    crops: bool = False
    codec: str = DEFAULT_CODEC
    track: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of an input. status: DONE, SKIPPED (was done before), FAILED or STOPPED (by the user).

    summary: of a run that was done; frames and instances are also known of one that was skipped.
    error: why one failed.
    """

    path: Path
    status: str
    frames: int = 0
    instances: int = 0
    summary: Summary | None = None
    error: str = ""


class Engine(Protocol):
    """Finds the instances of inputs elsewhere than in the segmenter given; see ray_engine.py."""

    def finder(self, file: InputFile) -> AbstractContextManager[Find]: ...


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
    on_start: Callable[[InputFile, int | None], None] = lambda file, frames: None,
    on_frame: Callable[[InputFile, int], None] = lambda file, done: None,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Segment every file into `folder`; what an earlier run finished there is skipped.

    An input is finished when the manifest says so and it, the settings and its outputs are what they were.
    One that fails does not hold up the others. jobs: videos at the same time. workers: see `stream`; images,
    which come first, are done jobs x workers at a time. engine: finds the instances in the segmenter's place.
    stop: completes the inputs under way as interrupted ones, which are redone next time, and leaves the rest.
    The callbacks come from the threads of the jobs: on_start with the number of frames to come, on_frame with
    that of those done.

    Raises PumpsegError if it shall track and cannot, SinkError if two inputs would have the same results or the
    folder cannot be written.
    """
    stop = stop or threading.Event()
    if options.track:
        Tracker()  # tells what is missing before anything is begun
    planned = {file: _outputs(file, folder, options) for file in files}
    _check_places(planned)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"cannot make the folder {folder}: {error.strerror}") from None
    manifest = Manifest(folder)
    lock = threading.Lock()
    settings = {
        "threshold": segmenter.threshold,
        "tiles": segmenter.tiles,
        "model": Fingerprint.of(segmenter.path).sha256,
        "codec": options.codec,
        "track": options.track,
        "outputs": [name for name in ("annotate", "json_lines", "coco", "crops") if getattr(options, name)],
    }

    def one(file: InputFile) -> Outcome:
        if stop.is_set():
            return Outcome(file.path, STOPPED)
        try:
            entry = manifest.is_done(file.path, settings)
            if entry is not None:
                return Outcome(file.path, SKIPPED, entry.frames, entry.instances)
            summary, fingerprint = _segment(
                file, planned[file], segmenter, options, workers, stop, engine, on_start, on_frame
            )
            frames, found = summary.frames, summary.instances
            if summary.interrupted:
                return Outcome(file.path, STOPPED, frames, found, summary)
            written = output_sizes(folder, _paths(planned[file]))
            with lock:
                manifest.add(file.path, Entry(fingerprint, settings, written, frames, found))
        except (PumpsegError, OSError) as error:
            return Outcome(file.path, FAILED, error=str(error))
        return Outcome(file.path, DONE, frames, found, summary)

    def told(file: InputFile) -> Outcome:
        try:
            outcome = one(file)
        except BaseException:
            # A fault of ours ends the batch; the other jobs must not go on behind its back.
            stop.set()
            raise
        on_outcome(outcome)
        return outcome

    outcomes: dict[InputFile, Outcome] = {}
    for group, at_once in (
        ([file for file in files if file.is_image], jobs * workers),
        ([file for file in files if not file.is_image], jobs),
    ):
        with ThreadPoolExecutor(at_once, thread_name_prefix="pumpseg-job") as pool:
            outcomes.update(zip(group, pool.map(told, group), strict=True))
    return [outcomes[file] for file in files]


def _segment(
    file: InputFile,
    outputs: Outputs,
    segmenter: Segmenter,
    options: BatchOptions,
    workers: int,
    stop: threading.Event,
    engine: Engine | None,
    on_start: Callable[[InputFile, int | None], None],
    on_frame: Callable[[InputFile, int], None],
) -> tuple[Summary, Fingerprint]:
    fingerprint = Fingerprint.of(file.path)
    source = open_input(file)
    try:
        for path in _paths(outputs):
            path.parent.mkdir(parents=True, exist_ok=True)
        if outputs.crops is not None and outputs.crops.is_dir():
            # Cutouts of an earlier, interrupted run may be more than there are now.
            shutil.rmtree(outputs.crops)
        sinks = open_sinks(source, outputs, segmenter.info.class_names)
        on_start(file, source.length)
        tracker = tracker_of(source) if options.track and source.timing is not None else None
        try:
            with engine.finder(file) if engine is not None else nullcontext() as find:
                summary = process(
                    source,
                    segmenter,
                    sinks,
                    workers=workers,
                    tracker=tracker,
                    stop=stop,
                    find=find,
                    on_frame=lambda done: on_frame(file, done),
                )
        except SourceError:
            raise  # what came before the source failed is complete
        except BaseException:
            if outputs.crops is not None:
                # Each is complete, but not all are there, and on a full disk they take the room of other inputs.
                shutil.rmtree(outputs.crops, ignore_errors=True)
            raise
    finally:
        source.close()
    return summary, fingerprint


def open_input(file: InputFile, section: Section | None = None) -> Source:
    """One input as a source; of a video the frames of a section only, if one is given. Raises SourceError."""
    return ImageSource(str(file.path), [file.path]) if file.is_image else VideoSource(file.path, section=section)


def _outputs(file: InputFile, folder: Path, options: BatchOptions) -> Outputs:
    place = folder / file.place
    # The whole name is kept, for a photo and a clip may share a stem: IMG_1.jpg.jsonl, IMG_1.mov.jsonl.
    same_format = file.is_image or file.path.suffix.lower() in VIDEO_FORMATS
    annotated = place if same_format else _named(place, ".mp4")
    return Outputs(
        save=annotated if options.annotate else None,
        json_lines=_named(place, ".jsonl") if options.json_lines else None,
        coco=_named(place, ".coco.json") if options.coco else None,
        crops=_named(place, ".crops") if options.crops else None,
        codec=options.codec,
    )


def _named(place: Path, suffix: str) -> Path:
    return place.with_name(place.name + suffix)


def _paths(outputs: Outputs) -> list[Path]:
    named = (outputs.save, outputs.json_lines, outputs.coco, outputs.crops)
    return [path for path in named if path is not None]


def _check_places(planned: Mapping[InputFile, Outputs]) -> None:
    inputs = {file.path.resolve() for file in planned}
    owners: dict[Path, InputFile] = {}
    for file, outputs in planned.items():
        for path in _paths(outputs):
            if path.resolve() in inputs:
                raise SinkError(f"{path} is an input: choose another --save-dir")
            if path.name == MANIFEST:
                raise SinkError(f"{file.path}: its results would be called {MANIFEST}, which is taken")
            other = owners.setdefault(path.resolve(), file)
            if other is not file:
                raise SinkError(
                    f"{other.path} and {file.path} would both be written to {path}: name the folder above them, "
                    "or a pattern with ** such as 'clips/**/*.mp4', and they keep their sub-folders"
                )
