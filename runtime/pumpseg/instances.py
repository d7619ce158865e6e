"""What the model found in one frame. Masks stay M x M probabilities until somebody asks for pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from pumpseg.errors import require
from pumpseg.masks.paste import REPLICATE, CropMask, paste_crop
from pumpseg.masks.polygons import Polygon, trace
from pumpseg.masks.rle import Rle, encode_crop

if TYPE_CHECKING:
    import supervision

UNCONFIRMED = -1
"""In place of an id: a tracker has not seen the instance often enough to give it one."""


class CocoResult(TypedDict):
    """One instance as COCO's results format has it. bbox: [x, y, width, height]; track_id: as in TAO."""

    image_id: int
    category_id: int
    bbox: list[float]
    score: float
    segmentation: Rle
    track_id: NotRequired[int]


@dataclass(frozen=True, eq=False)
class Instances:
    """N instances of one frame, best score first as the model gives them.

    boxes: float32 (N, 4), xyxy in frame pixels, clipped to the frame; pixel (row, column) covers
        [column, column + 1) x [row, row + 1).
    scores: float32 (N,), 0..1. class_ids: int64 (N,), 0-based index into class_names.
    mask_probabilities: float32 (N, M, M), and mask_boxes: float32 (N, 4), xyxy in frame pixels: the box that
        the M x M cells cover. It is the box before clipping, so that masks do not shrink at the frame's edge.
    frame_size: (height, width). track_ids: int64 (N,) of a tracker, UNCONFIRMED for those without one; or None.
    mask_border: see paste_crop.

    Indexing with a number, a slice, a bool mask or an index array gives Instances again.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    mask_probabilities: NDArray[np.float32]
    mask_boxes: NDArray[np.float32]
    frame_size: tuple[int, int]
    class_names: tuple[str, ...]
    track_ids: NDArray[np.int64] | None = None
    mask_border: str = REPLICATE

    def __post_init__(self) -> None:
        count = len(self.boxes)
        side = self.mask_probabilities.shape[-1]
        wanted = {
            "boxes": (count, 4),
            "scores": (count,),
            "class_ids": (count,),
            "mask_probabilities": (count, side, side),
            "mask_boxes": (count, 4),
            "track_ids": (count,),
        }
        for name, shape in wanted.items():
            array = getattr(self, name)
            if array is not None and array.shape != shape:
                raise ValueError(f"{name} has the shape {array.shape}, {shape} is needed")

    @classmethod
    def in_frame(
        cls,
        boxes: NDArray[np.float32],
        scores: NDArray[np.float32],
        class_ids: NDArray[np.int64],
        mask_probabilities: NDArray[np.float32],
        frame_size: tuple[int, int],
        class_names: Sequence[str],
        mask_border: str = REPLICATE,
    ) -> Instances:
        """Instances of boxes (N, 4) xyxy in frame pixels that may reach out of the frame.

        Boxes that hold nothing of the frame are left out.
        """
        height, width = frame_size
        clipped = np.clip(boxes, 0, np.array([width, height, width, height], np.float32)).astype(np.float32)
        inside = (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
        inside &= np.isfinite(boxes).all(axis=1)
        return cls(
            boxes=clipped[inside],
            scores=scores[inside],
            class_ids=class_ids[inside],
            mask_probabilities=mask_probabilities[inside],
            mask_boxes=boxes[inside],
            frame_size=frame_size,
            class_names=tuple(class_names),
            mask_border=mask_border,
        )

    @classmethod
    def empty(cls, frame_size: tuple[int, int], class_names: Sequence[str] = (), mask_side: int = 28) -> Instances:
        """No instances, in a frame of frame_size (height, width)."""
        return cls(
            boxes=np.zeros((0, 4), np.float32),
            scores=np.zeros(0, np.float32),
            class_ids=np.zeros(0, np.int64),
            mask_probabilities=np.zeros((0, mask_side, mask_side), np.float32),
            mask_boxes=np.zeros((0, 4), np.float32),
            frame_size=frame_size,
            class_names=tuple(class_names),
        )

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Any) -> Instances:
        if isinstance(index, (int, np.integer)):
            # Range checked here: a slice past the end would give no instance instead of an IndexError.
            index = [range(len(self))[int(index)]]
        elif not isinstance(index, slice):
            index = np.asarray(index)
            index = index if index.size else index.astype(np.bool_ if index.dtype == np.bool_ else np.int64)
        return replace(
            self,
            boxes=self.boxes[index],
            scores=self.scores[index],
            class_ids=self.class_ids[index],
            mask_probabilities=self.mask_probabilities[index],
            mask_boxes=self.mask_boxes[index],
            track_ids=None if self.track_ids is None else self.track_ids[index],
        )

    def with_track_ids(self, track_ids: NDArray[np.int64]) -> Instances:
        """The same instances with a tracker's ids, int64 (N,). Masks that were pasted already are kept."""
        instances = replace(self, track_ids=track_ids)
        if "crop_masks" in self.__dict__:
            instances.__dict__["crop_masks"] = self.crop_masks
        return instances

    def __iter__(self) -> Iterator[Instances]:
        return (self[i] for i in range(len(self)))

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Class name of every instance."""
        return tuple(self.class_names[i] for i in self.class_ids)

    def track_id(self, index: int) -> int | None:
        """The id that a tracker gave one instance; None without a tracker, or while it is unconfirmed."""
        if self.track_ids is None or self.track_ids[index] == UNCONFIRMED:
            return None
        return int(self.track_ids[index])

    @cached_property
    def crop_masks(self) -> tuple[CropMask, ...]:
        """The mask of every instance inside its box, made once and kept."""
        return tuple(
            paste_crop(probabilities, box, self.frame_size, border=self.mask_border)
            for probabilities, box in zip(self.mask_probabilities, self.mask_boxes, strict=True)
        )

    @property
    def masks(self) -> NDArray[np.bool_]:
        """Full-frame masks, bool (N, H, W), made anew at every call. See crop_masks and to_rle."""
        masks = np.zeros((len(self), *self.frame_size), np.bool_)
        for mask, crop in zip(masks, self.crop_masks, strict=True):
            crop_h, crop_w = crop.mask.shape
            mask[crop.y : crop.y + crop_h, crop.x : crop.x + crop_w] = crop.mask
        return masks

    @property
    def areas(self) -> NDArray[np.int64]:
        """Pixels in every mask, int64 (N,)."""
        return np.array([np.count_nonzero(crop.mask) for crop in self.crop_masks], np.int64)

    def to_rle(self) -> list[Rle]:
        """COCO RLE of every mask, straight from its crop."""
        return [encode_crop(crop.mask, crop.x, crop.y, self.frame_size) for crop in self.crop_masks]

    def to_coco(self, image_id: int = 1, category_ids: Mapping[str, int] | None = None) -> list[CocoResult]:
        """COCO results, which pycocotools' `loadRes` takes: boxes to a hundredth of a pixel, scores to four digits.

        category_ids: a data set's, by class name; else classes count from 1 in the order of the model.
        Raises ValueError for a class that has no category.
        """
        if category_ids is None:
            category_ids = {name: number for number, name in enumerate(self.class_names, 1)}
        results: list[CocoResult] = []
        for i, rle in enumerate(self.to_rle()):
            if self.labels[i] not in category_ids:
                raise ValueError(f"no category for the class {self.labels[i]}; there are {', '.join(category_ids)}")
            x1, y1, x2, y2 = (float(value) for value in self.boxes[i])
            result: CocoResult = {
                "image_id": image_id,
                "category_id": category_ids[self.labels[i]],
                "bbox": [round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)],
                "score": round(float(self.scores[i]), 4),
                "segmentation": rle,
            }
            track_id = self.track_id(i)
            if track_id is not None:
                result["track_id"] = track_id
            results.append(result)
        return results

    def to_polygons(self) -> list[list[Polygon]]:
        """The pieces of every mask as polygons along the edges of its pixels, in frame pixels; see `trace`."""
        return [trace(crop.mask, crop.x, crop.y) for crop in self.crop_masks]

    def to_supervision(self) -> supervision.Detections:
        """A `supervision.Detections` with boxes, masks (N, H, W), scores, classes and, of a tracker, its ids.

        Raises PumpsegError if supervision is not installed.
        """
        package = require("supervision", extra="supervision")
        detections: supervision.Detections = package.Detections(
            xyxy=self.boxes,
            mask=self.masks,
            confidence=self.scores,
            class_id=self.class_ids,
            tracker_id=self.track_ids,
            data={"class_name": np.array(self.labels, dtype=np.str_)},
        )
        return detections
