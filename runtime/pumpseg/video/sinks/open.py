"""Where results go besides the window: image_sink.py, video_sink.py, json_sink.py and raw_sink.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pumpseg.atomic_file import check_names
from pumpseg.errors import SinkError
from pumpseg.instances import Instances
from pumpseg.video.sinks.images import CropSink, FrameFolderSink, ImageFolderSink, ImageSink, image_outputs
from pumpseg.video.sinks.json import CocoIds, CocoSink, JsonLinesSink
from pumpseg.video.sinks.raw import RawSink
from pumpseg.video.sinks.video import DEFAULT_CODEC, VideoSink
from pumpseg.video.sources.frame_source import Frame, Source

STANDARD_OUTPUT = Path("-")


class Sink(Protocol):
    """Takes every frame in order, then is completed or discarded; discarding a complete sink does nothing.

    draws: whether `write` needs the frame with its instances drawn.
    """

    draws: bool

    def write(self, frame: Frame, instances: Instances, drawn: NDArray[np.uint8] | None) -> None: ...

    def complete(self, *, interrupted: bool = False) -> None: ...

    def discard(self) -> None: ...


@dataclass(frozen=True)
class Outputs:
    """What the user wants kept of a source.

    save: annotated: a video file, an image file, a folder for several images or the frames of a video, or
    STANDARD_OUTPUT for raw frames. codec: of the video, h264 or av1. json_lines: a file, or STANDARD_OUTPUT.
    coco: a file of COCO results, numbered by coco_ids where given. crops: a folder.
    """

    save: Path | None = None
    json_lines: Path | None = None
    coco: Path | None = None
    coco_ids: CocoIds | None = None
    crops: Path | None = None
    codec: str = DEFAULT_CODEC


def open_sinks(
    source: Source,
    outputs: Outputs,
    class_names: Sequence[str] = (),
    *,
    also_written: Sequence[Path] = (),
    also_read: Sequence[Path] = (),
) -> list[Sink]:
    """The sinks for what the user wants kept of a source. class_names: of the model, for COCO results.

    also_written: files that the caller writes itself. also_read: what it reads besides the source's own files.
    Raises SinkError if an output would overwrite an input, two outputs are one, or one cannot be written.
    """
    check_names([*_written(source, outputs), *also_written], [*source.inputs, *also_read])
    if outputs.crops is not None:
        taken = [path.parent for path in source.inputs if source.timing is None]
        taken += [outputs.save] if outputs.save is not None else []
        if outputs.crops.resolve() in {folder.resolve() for folder in taken}:
            raise SinkError(f"{outputs.crops} is the folder of other images: name one of its own for the crops")
    sinks: list[Sink] = []
    try:
        for sink in _opened(source, outputs, class_names):
            sinks.append(sink)
    except BaseException:
        for sink in sinks:
            sink.discard()
        raise
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
    """Whether images are saved into a folder; raises SinkError for several that are to go into one file."""
    if save.is_dir() or not save.suffix:
        if not source.inputs:
            raise SinkError(f"cannot save {source.name} into {save}: name an image file, such as {save}/snapshot.png")
        return True
    if len(source.inputs) > 1:
        raise SinkError(f"cannot save {len(source.inputs)} images as {save}: name a folder")
    return False


def _written(source: Source, outputs: Outputs) -> list[Path]:
    paths = [path for path in (outputs.json_lines, outputs.coco, outputs.crops) if path is not None]
    if outputs.save is None:
        return paths
    into_folder = outputs.save != STANDARD_OUTPUT and source.timing is None and _is_folder(source, outputs.save)
    return [*paths, *(image_outputs(source.inputs, outputs.save).values() if into_folder else [outputs.save])]
