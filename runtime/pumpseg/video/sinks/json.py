"""Instances as JSON: a line for each frame, or COCO's list of results."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pumpseg.atomic_file import PartialFile
from pumpseg.errors import SinkError
from pumpseg.video.result import Result, Sink
from pumpseg.video.sinks.stdout import open_stdout


class _TextSink(Sink):
    """UTF-8 text in a file that gets its name when complete; None for standard output.

    live: the file is of a live source. It is flushed at every write then, as standard output is.
    """

    def __init__(self, target: Path | None, *, live: bool = False) -> None:
        self.path = target
        self._file = None if target is None else PartialFile(target, live=live)
        self._flushed = live or target is None
        # As bytes: standard output is UTF-8 too, whatever the terminal's encoding, or a pipe's on Windows.
        self._out: BinaryIO = open_stdout() if self._file is None else self._file.path.open("wb")

    def write_text(self, text: str) -> None:
        try:
            # A lone surrogate is escaped as JSON escapes it.
            self._out.write(text.encode(errors="backslashreplace"))
            if self._flushed:
                self._out.flush()
        except OSError as error:
            raise self._failure(error) from None

    def complete(self, *, interrupted: bool = False) -> None:
        if self._file is None or self._out.closed:
            return
        try:
            self._out.close()
        except OSError as error:
            raise self._failure(error) from None
        self._file.complete()
        self.files = 1

    def recover(self) -> Path | None:
        self._close()
        return None if self._file is None else self._file.recover()

    def discard(self) -> None:
        self._close()
        if self._file is not None:
            self._file.discard()

    def _close(self) -> None:
        if self._file is not None:
            # Closing flushes the buffer, which fails on a full disk.
            with contextlib.suppress(OSError):
                self._out.close()

    def _failure(self, error: OSError) -> SinkError:
        what = "standard output" if self._file is None else str(self._file.target)
        return SinkError(f"cannot write {what}: {error.strerror}")


class JsonLinesSink(_TextSink):
    """One JSON object for each frame, see `frame_record`. target: a file, or None for standard output."""

    def write(self, result: Result) -> None:
        self.write_text(json.dumps(frame_record(result), ensure_ascii=False) + "\n")


@dataclass(frozen=True)
class CocoIds:
    """The ids of a data set's images, by file name, and of its classes, by name."""

    images: Mapping[str, int]
    categories: Mapping[str, int]

    @classmethod
    def read(cls, path: Path) -> CocoIds:
        """From a COCO json. Raises SinkError if the file is not one."""
        try:
            content = json.loads(path.read_bytes())
            images = {Path(image["file_name"]).name: int(image["id"]) for image in content["images"]}
            categories = {category["name"]: int(category["id"]) for category in content["categories"]}
        except OSError as error:
            raise SinkError(f"cannot read {path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise SinkError(f"{path} is not a COCO json: {type(error).__name__} {error}") from None
        if len(images) < len(content["images"]):
            raise SinkError(f"{path} has several images of one file name: their results could not be told apart")
        return cls(images, categories)


class CocoSink(_TextSink):
    """COCO results: a JSON list of what `Instances.to_coco` returns, each with its "file_name".

    pycocotools' loadRes takes it. With `ids` the ids are those of a data set; without, frames count from 1 in the
    order they come, and classes from 1 in the order of the model. Results are written frame by frame, so memory does
    not grow. Raises SinkError for a class, or one of `inputs`, that is not in the data set.
    """

    def __init__(
        self,
        target: Path,
        class_names: Sequence[str],
        ids: CocoIds | None = None,
        inputs: Sequence[Path] = (),
        *,
        live: bool = False,
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
            self._categories = ids.categories
            for path in inputs:
                self._image_id(path.name)
        super().__init__(target, live=live)
        self._frames = 0
        self._separator = "[\n"

    def write(self, result: Result) -> None:
        self._frames += 1
        name = Path(result.source).name
        for record in result.instances.to_coco(self._image_id(name), self._categories):
            self.write_text(self._separator + json.dumps({**record, "file_name": name}, ensure_ascii=False))
            self._separator = ",\n"

    def complete(self, *, interrupted: bool = False) -> None:
        if not self._out.closed:
            self.write_text("[]\n" if self._separator == "[\n" else "\n]\n")
        super().complete()

    def _image_id(self, name: str) -> int:
        if self._images is None:
            return self._frames
        if name not in self._images:
            raise SinkError(f"{name} is not among the images of the data set")
        return self._images[name]


def frame_record(result: Result) -> dict[str, Any]:
    """One frame as plain values for JSON.

    time is in seconds, to the microsecond. bbox is [x, y, width, height] in frame pixels, to a hundredth,
    as COCO json has it; segmentation is a COCO RLE. With a tracker every instance has a "track_id", null while it is
    unconfirmed. "zones" and "lines": see `ZoneCounts.to_json`, if there are any.
    """
    instances = result.instances
    height, width = instances.frame_size
    records = []
    for label, coco in zip(instances.labels, instances.to_coco(), strict=True):
        record: dict[str, Any] = {
            "class": label,
            "score": coco["score"],
            "bbox": coco["bbox"],
            "segmentation": coco["segmentation"],
        }
        if instances.track_ids is not None:
            record["track_id"] = coco.get("track_id")
        records.append(record)
    return {
        "source": result.source,
        "frame": result.index,
        "time": round(result.time, 6),
        "width": width,
        "height": height,
        "instances": records,
        **({} if result.counts is None else result.counts.to_json()),
    }
