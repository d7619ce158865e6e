"""Where results go besides the window: annotated images and JSON lines here, videos in video_sink.py."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from pumpseg.errors import SinkError
from pumpseg.frames import Frame, Source
from pumpseg.instances import Instances
from pumpseg.partial_file import PartialFile
from pumpseg.video_sink import VideoSink


class Sink(Protocol):
    """Takes every frame in order, then is completed or discarded; discarding a complete sink does nothing.

    draws: whether `write` needs the frame with its instances drawn.
    """

    draws: bool

    def write(self, frame: Frame, instances: Instances, drawn: NDArray[np.uint8] | None) -> None: ...

    def complete(self, *, interrupted: bool = False) -> None: ...

    def discard(self) -> None: ...


def open_sinks(source: Source, *, save: Path | None = None, json_lines: Path | None = None) -> list[Sink]:
    """The sinks for what the user wants kept of a source.

    save: a video file for a video or camera, an image for a single image, a folder for several.
    Raises SinkError if an output would overwrite an input, two outputs are one, or one cannot be written.
    """
    into_folder = save is not None and source.timing is None and _is_for_folder(source, save)
    outputs: list[Path] = []
    if save is not None:
        outputs += image_outputs(source.inputs, save).values() if into_folder else [save]
    if json_lines is not None:
        outputs.append(json_lines)
    _check_outputs(source, outputs)

    sinks: list[Sink] = []
    try:
        if json_lines is not None:
            sinks.append(JsonLinesSink(json_lines))
        if save is not None and source.timing is not None:
            sinks.append(VideoSink(save, source.timing, source.inputs[0] if source.inputs else None))
        elif save is not None and into_folder:
            sinks.append(ImageFolderSink(source.inputs, save))
        elif save is not None:
            sinks.append(ImageSink(save))
    except BaseException:
        for sink in sinks:
            sink.discard()
        raise
    return sinks


def _is_for_folder(source: Source, save: Path) -> bool:
    """Whether images are saved into a folder; raises SinkError for several that are to go into one file."""
    if save.is_dir() or not save.suffix:
        return True
    if len(source.inputs) > 1:
        raise SinkError(f"cannot save {len(source.inputs)} images as {save}: name a folder")
    return False


def _check_outputs(source: Source, outputs: list[Path]) -> None:
    inputs = {path.resolve() for path in source.inputs}
    seen = set()
    for output in outputs:
        if output.resolve() in inputs:
            raise SinkError(f"{output} is an input: choose another name for the output")
        if output.resolve() in seen:
            raise SinkError(f"two outputs would be written to {output}")
        seen.add(output.resolve())


class ImageSink:
    """One annotated image, in the format of its suffix. Raises SinkError if OpenCV cannot write that."""

    draws = True

    def __init__(self, target: Path) -> None:
        if not target.suffix or not cv2.haveImageWriter(target.name):
            raise SinkError(f"cannot write {target}: {target.suffix or 'no suffix'} is no image format; try .png")
        self._file = PartialFile(target)
        self._written = False

    def write(self, frame: Frame, instances: Instances, drawn: NDArray[np.uint8] | None) -> None:
        assert drawn is not None
        encoded, data = cv2.imencode(self._file.target.suffix, drawn)
        if not encoded:
            raise SinkError(f"cannot encode {drawn.shape[1]}x{drawn.shape[0]} pixels as {self._file.target}")
        try:
            self._file.path.write_bytes(data.tobytes())
        except OSError as error:
            raise SinkError(f"cannot write {self._file.target}: {error.strerror}") from None
        self._written = True

    def complete(self, *, interrupted: bool = False) -> None:
        if self._written:
            self._file.complete()
        else:
            self._file.discard()

    def discard(self) -> None:
        self._file.discard()


class ImageFolderSink:
    """One annotated image for each input image, under its name in a folder; complete once it is there."""

    draws = True

    def __init__(self, inputs: tuple[Path, ...], folder: Path) -> None:
        self._outputs = image_outputs(inputs, folder)
        self._folder = folder
        self._made = not folder.exists()
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise SinkError(f"cannot make the folder {folder}: {error.strerror}") from None

    def write(self, frame: Frame, instances: Instances, drawn: NDArray[np.uint8] | None) -> None:
        image = ImageSink(self._outputs[frame.source])
        try:
            image.write(frame, instances, drawn)
        except BaseException:
            image.discard()
            raise
        image.complete()

    def complete(self, *, interrupted: bool = False) -> None:
        """Every image is complete already."""

    def discard(self) -> None:
        if self._made and not any(self._folder.iterdir()):
            self._folder.rmdir()


def image_outputs(inputs: tuple[Path, ...], folder: Path) -> dict[str, Path]:
    """The output file of every input image, by the input's path."""
    return {str(path): folder / path.name for path in inputs}


class JsonLinesSink:
    """One JSON object a frame, as `frame_record` makes it."""

    draws = False

    def __init__(self, target: Path) -> None:
        self._file = PartialFile(target)
        self._lines = self._file.path.open("w", encoding="utf-8")

    def write(self, frame: Frame, instances: Instances, drawn: NDArray[np.uint8] | None) -> None:
        try:
            self._lines.write(json.dumps(frame_record(frame, instances), ensure_ascii=False) + "\n")
        except OSError as error:
            raise SinkError(f"cannot write {self._file.target}: {error.strerror}") from None

    def complete(self, *, interrupted: bool = False) -> None:
        try:
            self._lines.close()
        except OSError as error:
            self._file.discard()
            raise SinkError(f"cannot write {self._file.target}: {error.strerror}") from None
        self._file.complete()

    def discard(self) -> None:
        # Closing writes what is left, which a full disk refuses.
        with contextlib.suppress(OSError):
            self._lines.close()
        self._file.discard()


def frame_record(frame: Frame, instances: Instances) -> dict[str, Any]:
    """One frame as plain values for JSON.

    time is in seconds, to the microsecond. bbox is [x, y, width, height] in frame pixels, to a hundredth,
    as COCO json has it; segmentation is a COCO RLE. Instances of a tracker carry their "id".
    """
    height, width = instances.frame_size
    records = []
    for i, rle in enumerate(instances.rle()):
        x1, y1, x2, y2 = (float(value) for value in instances.boxes[i])
        record: dict[str, Any] = {
            "class": instances.labels[i],
            "score": round(float(instances.scores[i]), 4),
            "bbox": [round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)],
            "segmentation": rle,
        }
        if instances.ids is not None:
            record["id"] = int(instances.ids[i])
        records.append(record)
    return {
        "source": frame.source,
        "frame": frame.index,
        "time": round(frame.time, 6),
        "width": width,
        "height": height,
        "instances": records,
    }
