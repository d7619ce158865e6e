"""A data set that grows frame by frame: DIR/train/images and annotations.json, with the model's masks as labels."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from pumpseg.atomic_file import complete_file, write_json
from pumpseg.errors import OptionError, SinkError
from pumpseg.file_lock import lock_file
from pumpseg.instances import Instances
from pumpseg.opencv import cv2
from pumpseg.watch.retention import remove_partial_files

log = logging.getLogger("pumpseg")

_SPLIT = "train"
_LOCK = ".lock"
_NAME = re.compile(r"\d{8}T\d{6}Z-.+-[0-9a-f]{32}\.jpg")
_MAX_DISTANCE = 8
"""Bits of 64 by which the hashes of two pictures of the same thing differ at most: noise, a cloud."""


class FrameLabels(TypedDict):
    """The labels of a frame as plain values for JSON. instances: with class, bbox, area, segmentation and score."""

    width: int
    height: int
    classes: list[str]
    instances: list[dict[str, Any]]


class CollectedSet:
    """Adds frames with their labels; each addition is complete or not there, also after kill -9.

    Labels are read again before each addition, so a frame that somebody has removed or corrected in the meantime stays
    so. The oldest frames are removed beyond max_frames or max_bytes, or when they are older than max_age seconds.
    For one thread. Raises OptionError for limits below 1, SinkError if the folder cannot be used, holds labels that
    cannot be read, or is another process's.
    """

    def __init__(self, folder: Path, *, max_frames: int, max_bytes: float, max_age: float) -> None:
        if min(max_frames, max_bytes, max_age) < 1:
            raise OptionError(f"{folder}: limits below 1 frame, 1 byte or 1 second keep nothing")
        self.folder = folder
        self._max_frames, self._max_bytes, self._max_age = max_frames, max_bytes, max_age
        self._images = folder / _SPLIT / "images"
        self._json = folder / _SPLIT / "annotations.json"
        try:
            self._images.mkdir(parents=True, exist_ok=True)
            self._lock = lock_file(folder / _LOCK, f"process {os.getpid()}\n")
        except OSError as error:
            raise SinkError(f"cannot write into {folder}: {error.strerror or error}") from None
        if self._lock is None:
            raise SinkError(f"another process writes into {folder}: stop it, or name another folder")
        try:
            self._remove_unlisted(self._read())
            remove_partial_files(self._images)
        except SinkError:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._read()["images"])

    def moments(self) -> list[float]:
        """When the frames were added, in seconds since the epoch, oldest first."""
        return sorted(datetime.fromisoformat(image["time"]).timestamp() for image in self._ours(self._read()))

    def add(
        self,
        jpeg: bytes,
        labels: FrameLabels,
        hashes: tuple[int, int],
        *,
        camera: str,
        reason: str,
        name: str,
        moment: datetime,
        allow_duplicate: bool = False,
    ) -> Path | None:
        """Add a frame; None if one like it is there already. hashes: `picture_hash` of all of it, and of what it is
        kept for. name: 32 hexadecimal digits, of which there is one frame only. moment: with a time zone.

        Raises SinkError.
        """
        content = self._read()
        if not allow_duplicate and self._has_like(content, hashes):
            return None
        moment = moment.astimezone(UTC)
        file_name = f"{moment:%Y%m%dT%H%M%SZ}-{camera}-{reason}-{name}.jpg"
        if any(image["file_name"].endswith(f"-{name}.jpg") for image in content["images"]):
            return None
        image_id = 1 + max((int(image["id"]) for image in content["images"]), default=0)
        content["images"].append(
            {
                "id": image_id,
                "file_name": file_name,
                "width": labels["width"],
                "height": labels["height"],
                "camera": camera,
                "reason": reason,
                "time": moment.isoformat(timespec="seconds"),
                "hashes": [f"{value:016x}" for value in hashes],
            }
        )
        _add_labels(content, image_id, labels)
        self._drop_oldest(content, len(jpeg))
        path = self._images / file_name
        # The picture comes first: one that is not listed is removed at the next start.
        with complete_file(path) as partial:
            partial.write_bytes(jpeg)
        write_json(self._json, content, indent=None)
        self._remove_unlisted(content)
        return path

    def _has_like(self, content: dict[str, Any], hashes: tuple[int, int]) -> bool:
        known = [[int(value, 16) for value in image["hashes"]] for image in self._ours(content)]
        if not known:
            return False
        differing = np.array(known, np.uint64) ^ np.array(hashes, np.uint64)
        return bool((np.bitwise_count(differing) <= _MAX_DISTANCE).all(axis=1).any())

    def _drop_oldest(self, content: dict[str, Any], added: int) -> None:
        ours = sorted(self._ours(content), key=lambda image: str(image["time"]))
        sizes = {image["id"]: self._size(image["file_name"]) for image in ours}
        total, count = sum(sizes.values()) + added, len(ours)
        oldest_allowed = time() - self._max_age
        dropped = set()
        for image in ours[:-1]:
            is_old = datetime.fromisoformat(image["time"]).timestamp() < oldest_allowed
            if not is_old and total <= self._max_bytes and count <= self._max_frames:
                break
            dropped.add(image["id"])
            total, count = total - sizes[image["id"]], count - 1
        content["images"] = [image for image in content["images"] if image["id"] not in dropped]
        content["annotations"] = [one for one in content["annotations"] if one["image_id"] not in dropped]

    def _size(self, file_name: str) -> int:
        try:
            return (self._images / file_name).stat().st_size
        except OSError:
            return 0

    def _read(self) -> dict[str, Any]:
        if not self._json.exists():
            return {"categories": [], "images": [], "annotations": []}
        try:
            content: dict[str, Any] = json.loads(self._json.read_bytes())
            for key in ("categories", "images", "annotations"):
                if not all(isinstance(record, dict) for record in content[key]):
                    raise ValueError(f"its {key} are not objects")
            for image in self._ours(content):
                datetime.fromisoformat(image["time"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise SinkError(f"cannot read {self._json}, repair it or move it away: {error}") from None
        # A frame that somebody has deleted is gone.
        kept = {image["id"] for image in content["images"] if (self._images / image["file_name"]).is_file()}
        content["images"] = [image for image in content["images"] if image["id"] in kept]
        content["annotations"] = [one for one in content["annotations"] if one["image_id"] in kept]
        return content

    @staticmethod
    def _ours(content: dict[str, Any]) -> list[dict[str, Any]]:
        return [image for image in content["images"] if "hashes" in image and "time" in image]

    def _remove_unlisted(self, content: dict[str, Any]) -> None:
        """Remove pictures that we wrote and no label file lists."""
        listed = {image["file_name"] for image in content["images"]}
        for path in self._images.iterdir():
            if path.name not in listed and _NAME.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    path.unlink()

    def close(self) -> None:
        """Let another process use the folder. Does nothing twice."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


def labels_of(instances: Instances) -> FrameLabels:
    """The labels that a model gives a frame; instances of no pixel are left out."""
    height, width = instances.frame_size
    results = zip(instances.to_coco(), instances.labels, instances.areas, strict=True)
    return {
        "width": width,
        "height": height,
        "classes": list(instances.class_names),
        "instances": [
            {
                "class": label,
                "bbox": result["bbox"],
                "area": int(area),
                "segmentation": result["segmentation"],
                "score": result["score"],
            }
            for result, label, area in results
            if area
        ],
    }


def _add_labels(content: dict[str, Any], image_id: int, labels: FrameLabels) -> None:
    ids = {category["name"]: int(category["id"]) for category in content["categories"]}
    for name in labels["classes"]:
        if name not in ids:
            ids[name] = 1 + max(ids.values(), default=0)
            content["categories"].append({"id": ids[name], "name": name})
    next_id = 1 + max((int(one["id"]) for one in content["annotations"]), default=0)
    for number, instance in enumerate(labels["instances"], next_id):
        record = {"id": number, "image_id": image_id, "category_id": ids[instance["class"]], "iscrowd": 0, **instance}
        del record["class"]
        content["annotations"].append(record)


def picture_hash(image: NDArray[np.uint8]) -> int:
    """Difference hash of a picture, uint8 BGR (H, W, 3): 64 bits, few of which change with noise, scale or brightness.

    Whether each cell of 8 x 8 is brighter than its neighbour (N. Krawetz, "Kind of Like That", 2013).
    """
    cells = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    bits = (cells[:, 1:] > cells[:, :-1]).ravel()
    return int.from_bytes(np.packbits(bits).tobytes())
