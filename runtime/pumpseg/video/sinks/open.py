"""Opens the outputs that a user names: video.py, images.py, json.py and raw.py."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from pumpseg.atomic_file import check_names
from pumpseg.errors import SinkError, WriteError
from pumpseg.images import check_image_format
from pumpseg.video.result import Result, Sink
from pumpseg.video.sinks.images import CropSink, FrameFolderSink, ImageFolderSink, ImageSink, image_outputs
from pumpseg.video.sinks.json import CocoIds, CocoSink, JsonLinesSink
from pumpseg.video.sinks.raw import RawSink
from pumpseg.video.sinks.video import DEFAULT_CODEC, VideoSink, check_video_format
from pumpseg.video.sources.frame_source import Source

log = logging.getLogger("pumpseg")

STANDARD_OUTPUT = Path("-")


class Sinks(Sink):
    """All outputs of one source, written and ended together; false if there are none, or none is left.

    A sink that fails takes only itself down: its output is discarded, the others continue, and `complete` raises
    WriteError once they are complete. live: what was recorded cannot be had again. It is completed even after an
    exception, and what a sink had written before it failed is kept under another name.
    """

    def __init__(self, sinks: Sequence[Sink] = (), *, live: bool = False) -> None:
        self._sinks = list(sinks)
        self._live = live
        self._failures: list[str] = []
        self._kept: list[Path] = []

    def __bool__(self) -> bool:
        return bool(self._sinks)

    @property
    def failed(self) -> bool:
        """Whether there were sinks, and all of them failed."""
        return bool(self._failures) and not self._sinks

    def write(self, result: Result) -> None:
        for sink in tuple(self._sinks):
            try:
                sink.write(result)
            except SinkError as error:
                self._sinks.remove(sink)
                self._end_failed(sink, error)
                if self._sinks or self._live:
                    log.error(
                        "%s; %s", error, "the other outputs continue" if self._sinks else "nothing is saved any more"
                    )

    def complete(self, *, interrupted: bool = False) -> None:
        """Complete all outputs. Raises WriteError if one failed, now or before."""
        while self._sinks:
            sink = self._sinks[0]
            try:
                sink.complete(interrupted=interrupted)
            except SinkError as error:
                self._end_failed(sink, error)
            else:
                sink.discard()
                self.files += sink.files
                self._kept += [] if sink.path is None or not sink.path.exists() else [sink.path]
            del self._sinks[0]
        if self._failures:
            kept = f"; kept: {', '.join(map(str, self._kept))}" if self._kept else ""
            failures, self._failures = "; ".join(self._failures), []
            raise WriteError(failures + kept)

    def discard(self) -> None:
        with contextlib.ExitStack() as discarding:
            for sink in self._sinks:
                discarding.callback(sink.discard)

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error_type is not None and self._live:
            try:
                self.complete(interrupted=True)
            except SinkError as failure:
                log.error("%s", failure)  # what ended the run is the error to raise
        super().__exit__(error_type, error, trace)

    def _end_failed(self, sink: Sink, error: SinkError) -> None:
        self._failures.append(str(error))
        # The disk may be full or gone, and the first error is the one to report.
        with contextlib.suppress(OSError):
            if not self._live:
                sink.discard()
            elif (kept := sink.recover()) is not None:
                self._kept.append(kept)


@dataclass(frozen=True)
class Outputs:
    """What the user wants to keep of a source.

    save: annotated frames: a video file, an image file, a folder for several images or the frames of a video, or
    STANDARD_OUTPUT for raw frames. codec: of the video, h264 or av1. json_lines: a file, or STANDARD_OUTPUT.
    coco: a file of COCO results, numbered by coco_ids where given. crops: a folder.
    """

    save: Path | None = None
    json_lines: Path | None = None
    coco: Path | None = None
    coco_ids: CocoIds | None = None
    crops: Path | None = None
    codec: str = DEFAULT_CODEC

    @property
    def paths(self) -> list[Path]:
        return [path for path in (self.save, self.json_lines, self.coco, self.crops) if path is not None]


def check_outputs(source: Source, outputs: Outputs) -> None:
    """Raise SinkError if the annotated frames of a source cannot be saved in the format that their name means.

    `open_sinks` checks it, too; here it is known before a model is loaded.
    """
    save = outputs.save
    if save in (None, STANDARD_OUTPUT):
        return
    if source.timing is None:
        if not _is_folder(source, save):
            check_image_format(save)
    elif not _names_folder(save):
        check_video_format(save)


def open_sinks(
    source: Source,
    outputs: Outputs,
    class_names: Sequence[str] = (),
    *,
    also_written: Sequence[Path] = (),
    also_read: Sequence[Path] = (),
) -> Sinks:
    """The sinks for what the user wants to keep of a source. class_names: of the model, for COCO results.

    also_written: files that the caller writes itself. also_read: what it reads besides the source's own files.
    Raises SinkError if an output would overwrite an input, two outputs are one, or one cannot be written.

        with open_source("patch.mp4") as source, open_sinks(source, Outputs(save=Path("out.mp4"))) as sinks:
            process(source, segmenter.infer, sinks)
    """
    check_names([*_written(source, outputs), *also_written], [*source.inputs, *also_read])
    if outputs.crops is not None:
        taken = [path.parent for path in source.inputs if source.timing is None]
        taken += [outputs.save] if outputs.save is not None else []
        if outputs.crops.resolve() in {folder.resolve() for folder in taken}:
            raise SinkError(f"{outputs.crops} is the folder of other images: name a separate folder for the crops")
    with contextlib.ExitStack() as opened:
        sinks = Sinks([opened.enter_context(sink) for sink in _opened(source, outputs, class_names)], live=source.live)
        opened.pop_all()  # from here on they are the caller's
    return sinks


def _opened(source: Source, outputs: Outputs, class_names: Sequence[str]) -> Iterator[Sink]:
    save = outputs.save
    if outputs.json_lines is not None:
        target = None if outputs.json_lines == STANDARD_OUTPUT else outputs.json_lines
        yield JsonLinesSink(target, live=source.live)
    if outputs.coco is not None:
        yield CocoSink(outputs.coco, class_names, outputs.coco_ids, source.inputs, live=source.live)
    if outputs.crops is not None:
        yield CropSink(outputs.crops, source.inputs, name=source.name, of_video=source.timing is not None)
    if save is None:
        return
    if save == STANDARD_OUTPUT:
        yield RawSink(source.timing)
    elif source.timing is None:
        yield ImageFolderSink(source.inputs, save) if _is_folder(source, save) else ImageSink(save)
    elif _names_folder(save):
        yield FrameFolderSink(save)
    else:
        yield VideoSink(save, source.timing, source.audio, codec=outputs.codec, live=source.live)


def _names_folder(save: Path) -> bool:
    return save.is_dir() or not save.suffix


def _is_folder(source: Source, save: Path) -> bool:
    """Whether images are saved into a folder. Raises SinkError for several images and one file."""
    if _names_folder(save):
        if not source.inputs:
            raise SinkError(f"cannot save {source.name} into {save}: name an image file, such as {save}/snapshot.png")
        return True
    if len(source.inputs) > 1:
        raise SinkError(f"cannot save {len(source.inputs)} images as {save}: name a folder")
    return False


def _written(source: Source, outputs: Outputs) -> list[Path]:
    if outputs.save in (None, STANDARD_OUTPUT) or source.timing is not None or not _is_folder(source, outputs.save):
        return outputs.paths
    into_folder = image_outputs(source.inputs, outputs.save).values()
    return [*into_folder, *(path for path in outputs.paths if path != outputs.save)]
