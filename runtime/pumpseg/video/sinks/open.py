"""Opens the outputs that a user names: video.py, images.py, json.py and raw.py."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pumpseg.atomic_file import check_names
from pumpseg.errors import SinkError
from pumpseg.video.result import Result, Sink
from pumpseg.video.sinks.images import CropSink, FrameFolderSink, ImageFolderSink, ImageSink, image_outputs
from pumpseg.video.sinks.json import CocoIds, CocoSink, JsonLinesSink
from pumpseg.video.sinks.raw import RawSink
from pumpseg.video.sinks.video import DEFAULT_CODEC, VideoSink
from pumpseg.video.sources.frame_source import Source

STANDARD_OUTPUT = Path("-")


class Sinks(Sink):
    """All outputs of one source, written and ended together; false if there are none."""

    def __init__(self, sinks: Sequence[Sink] = ()) -> None:
        self._sinks = tuple(sinks)

    def __bool__(self) -> bool:
        return bool(self._sinks)

    def write(self, result: Result) -> None:
        for sink in self._sinks:
            sink.write(result)

    def complete(self, *, interrupted: bool = False) -> None:
        for sink in self._sinks:
            sink.complete(interrupted=interrupted)

    def discard(self) -> None:
        with contextlib.ExitStack() as discarding:
            for sink in self._sinks:
                discarding.callback(sink.discard)


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
        sinks = Sinks([opened.enter_context(sink) for sink in _opened(source, outputs, class_names)])
        opened.pop_all()  # from here on they are the caller's
    return sinks


def _opened(source: Source, outputs: Outputs, class_names: Sequence[str]) -> Iterator[Sink]:
    save = outputs.save
    if outputs.json_lines is not None:
        yield JsonLinesSink(None if outputs.json_lines == STANDARD_OUTPUT else outputs.json_lines)
    if outputs.coco is not None:
        yield CocoSink(outputs.coco, class_names, outputs.coco_ids, source.inputs)
    if outputs.crops is not None:
        yield CropSink(outputs.crops, source.inputs, name=source.name, of_video=source.timing is not None)
    if save is None:
        return
    if save == STANDARD_OUTPUT:
        yield RawSink(source.timing)
    elif source.timing is None:
        yield ImageFolderSink(source.inputs, save) if _is_folder(source, save) else ImageSink(save)
    elif save.is_dir() or not save.suffix:
        yield FrameFolderSink(save)
    else:
        yield VideoSink(save, source.timing, source.audio, codec=outputs.codec, live=source.live)


def _is_folder(source: Source, save: Path) -> bool:
    """Whether images are saved into a folder. Raises SinkError for several images and one file."""
    if save.is_dir() or not save.suffix:
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
