"""What was found as JSON: a line a frame, or COCO's results list."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from pumpseg.atomic_file import PartialFile
from pumpseg.errors import SinkError
from pumpseg.instances import Instances
from pumpseg.video.sources.frame_source import Frame


class JsonLinesSink:
    """One JSON object a frame, as `frame_record` makes it. target: a file, or None for standard output."""

    draws = False

    def __init__(self, target: Path | None) -> None:
        self._text = _TextFile(target)

    def write(self, frame: Frame, instances: Instances, drawn: NDArray[np.uint8] | None) -> None:
        self._text.write(json.dumps(frame_record(frame, instances), ensure_ascii=False) + "\n")

    def complete(self, *, interrupted: bool = False) -> None:
        self._text.complete()

    def discard(self) -> None:
        self._text.discard()


@dataclass(frozen=True)
class CocoIds:
    """The numbers that a data set gives its images, by file name, and its classes, by name."""

    images: Mapping[str, int]
    categories: Mapping[str, int]

    @classmethod
    def read(cls, path: Path) -> CocoIds:
        """From a COCO json. Raises SinkError if it is none."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            images = {Path(image["file_name"]).name: int(image["id"]) for image in content["images"]}
            categories = {category["name"]: int(category["id"]) for category in content["categories"]}
        except OSError as error:
            raise SinkError(f"cannot read {path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise SinkError(f"{path} is no COCO json: {type(error).__name__} {error}") from None
        if len(images) < len(content["images"]):
            raise SinkError(f"{path} has images of the same file name: results could not be told apart")
        return cls(images, categories)


class CocoSink:
    """COCO results: a JSON list of what `Instances.to_coco` gives, each with its "file_name".

    pycocotools' loadRes takes it. With `ids` the numbers are those of a data set; without, frames count from 1
    in the order they come, and classes from 1 in the order of the model. It is written as it grows, so that
    memory does not. Raises SinkError for a class, or one of `inputs`, that the data set has not.
    """

    draws = False

    def __init__(
        self, target: Path, class_names: Sequence[str], ids: CocoIds | None = None, inputs: Sequence[Path] = ()
    ) -> None:
        self._images = None if ids is None else ids.images
        if ids is None:
            self._categories: Mapping[str, int] = {name: i for i, name in enumerate(class_names, 1)}
        else:
            missing = [name for name in class_names if name not in ids.categories]
            if missing:
                raise SinkError(
                    f"the data set has no class {', '.join(missing)}; it has {', '.join(ids.categories) or 'none'}"
                )
            strange = [path for path in inputs if path.name not in ids.images]
            if strange:
                raise SinkError(f"{strange[0].name} is not among the images of the data set")
            self._categories = ids.categories
        self._text = _TextFile(target)
        self._frames = 0
        self._separator = "[\n"

    def write(self, frame: Frame, instances: Instances, drawn: NDArray[np.uint8] | None) -> None:
        self._frames += 1
        name = Path(frame.source).name
        if self._images is None:
            image_id = self._frames
        elif name in self._images:
            image_id = self._images[name]
        else:
            raise SinkError(f"{name} is not among the images of the data set")
        for result in instances.to_coco(image_id, self._categories):
            self._text.write(self._separator + json.dumps({**result, "file_name": name}, ensure_ascii=False))
            self._separator = ",\n"

    def complete(self, *, interrupted: bool = False) -> None:
        self._text.write("[]\n" if self._separator == "[\n" else "\n]\n")
        self._text.complete()

    def discard(self) -> None:
        self._text.discard()


class _TextFile:
    """UTF-8 text that gets its name when complete; or standard output, which is flushed at every write."""

    def __init__(self, target: Path | None) -> None:
        self._file = None if target is None else PartialFile(target)
        if self._file is None:
            if sys.stdout is None:
                raise SinkError("standard output is closed")
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(encoding="utf-8")  # whatever the terminal's, or a pipe's on Windows
        self._out: TextIO = sys.stdout if self._file is None else self._file.path.open("w", encoding="utf-8")

    def write(self, text: str) -> None:
        try:
            self._out.write(text)
            if self._file is None:
                self._out.flush()
        except OSError as error:
            raise self._failure(error) from None

    def complete(self) -> None:
        if self._file is None:
            return
        try:
            self._out.close()
        except OSError as error:
            self._file.discard()
            raise self._failure(error) from None
        self._file.complete()

    def discard(self) -> None:
        if self._file is None:
            return
        # Closing writes what is left, which a full disk refuses.
        with contextlib.suppress(OSError):
            self._out.close()
        self._file.discard()

    def _failure(self, error: OSError) -> SinkError:
        what = "standard output" if self._file is None else str(self._file.target)
        return SinkError(f"cannot write {what}: {error.strerror}")


def frame_record(frame: Frame, instances: Instances) -> dict[str, Any]:
    """One frame as plain values for JSON.

    time is in seconds, to the microsecond. bbox is [x, y, width, height] in frame pixels, to a hundredth,
    as COCO json has it; segmentation is a COCO RLE. With a tracker every instance has an "id", null for those that
    it has not followed yet.
    """
    height, width = instances.frame_size
    return {
        "source": frame.source,
        "frame": frame.index,
        "time": round(frame.time, 6),
        "width": width,
        "height": height,
        "instances": _instance_records(instances),
    }


def _instance_records(instances: Instances) -> list[dict[str, Any]]:
    records = []
    for i, result in enumerate(instances.to_coco()):
        record: dict[str, Any] = {
            "class": instances.labels[i],
            "score": result["score"],
            "bbox": result["bbox"],
            "segmentation": result["segmentation"],
        }
        if instances.track_ids is not None:
            record["id"] = result.get("track_id")
        records.append(record)
    return records
