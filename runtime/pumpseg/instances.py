"""The instances found in one frame. Masks stay M x M probabilities until pixels are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from pumpseg.drawing import Color, draw
from pumpseg.errors import require
from pumpseg.images import Image, check_image_format, write_image
from pumpseg.masks.paste import REPLICATE, CellMasks, CropMask
from pumpseg.masks.polygons import Polygon, trace
from pumpseg.masks.rle import Rle, encode_crop

if TYPE_CHECKING:
    import supervision

UNCONFIRMED = -1
"""In track_ids: the tracker has not seen the instance often enough to give it an id."""


class CocoResult(TypedDict):
    """One instance in COCO's results format. bbox: [x, y, width, height]; track_id: as in TAO."""

    image_id: int
    category_id: int
    bbox: list[float]
    score: float
    segmentation: Rle
    track_id: NotRequired[int]


@dataclass(frozen=True, eq=False, repr=False)
class Instances:
    """N instances of one frame, best score first as the model gives them.

    boxes: float32 (N, 4), xyxy in frame pixels, clipped to the frame; pixel (row, column) covers
        [column, column + 1) x [row, row + 1).
    scores: float32 (N,), 0..1. class_ids: int64 (N,), 0-based index into class_names.
    frame_size: (height, width). track_ids: int64 (N,) of a tracker, UNCONFIRMED for those without one; or None.
    cells: what the masks are pasted from.

    `Segmenter` makes them. Indexing with a number, a slice, a bool mask or an index array gives Instances again.

    >>> import numpy as np
    >>> from pumpseg import Instances
    >>> boxes = np.array([[10, 10, 30, 50], [40, 0, 60, 20]], np.float32)
    >>> scores, class_ids, cells = np.array([0.93, 0.8], np.float32), np.array([0, 1]), np.ones((2, 28, 28), np.float32)
    >>> instances = Instances.in_frame(boxes, scores, class_ids, cells, (48, 64), ["pumpkin", "gourd"])
    >>> instances
    Instances(2: pumpkin 0.93, gourd 0.80)
    >>> instances[instances.scores > 0.9].masks.shape
    (1, 48, 64)
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    cells: CellMasks
    frame_size: tuple[int, int]
    class_names: tuple[str, ...]
    track_ids: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        count = len(self.boxes)
        wanted = {"boxes": (count, 4), "scores": (count,), "class_ids": (count,), "track_ids": (count,)}
        for name, shape in wanted.items():
            array = getattr(self, name)
            if array is not None and array.shape != shape:
                raise ValueError(f"{name} has the shape {array.shape}, {shape} is needed")
        if len(self.cells) != count:
            raise ValueError(f"there are {count} boxes and {len(self.cells)} masks")

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
        """Instances of boxes (N, 4) xyxy in frame pixels that may reach out of the frame; see CellMasks for masks.

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
            cells=CellMasks(mask_probabilities[inside], boxes[inside], mask_border),
            frame_size=frame_size,
            class_names=tuple(class_names),
        )

    @classmethod
    def empty(cls, frame_size: tuple[int, int], class_names: Sequence[str] = (), mask_side: int = 28) -> Instances:
        """No instances, in a frame of frame_size (height, width)."""
        boxes, scores = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        masks = np.zeros((0, mask_side, mask_side), np.float32)
        return cls.in_frame(boxes, scores, np.zeros(0, np.int64), masks, frame_size, class_names)

    @classmethod
    def concatenate(cls, parts: Sequence[Instances]) -> Instances:
        """The instances of at least one part, all of one frame and one model, in order; their track ids are dropped."""
        boxes, scores, class_ids = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("boxes", "scores", "class_ids")
        )
        cells = CellMasks.concatenate([part.cells for part in parts])
        return replace(parts[0], boxes=boxes, scores=scores, class_ids=class_ids, cells=cells, track_ids=None)

    def __len__(self) -> int:
        return len(self.boxes)

    def __repr__(self) -> str:
        shown = [f"{label} {score:.2f}" for label, score in zip(self.labels, self.scores, strict=True)][:5]
        rest = ", ..." if len(self) > len(shown) else ""
        return f"Instances({len(self)}{': ' if shown else ''}{', '.join(shown)}{rest})"

    def __getitem__(self, index: Any) -> Instances:
        if isinstance(index, (int, np.integer)):
            # Range checked here: a slice past the end would give no instance instead of an IndexError.
            index = [range(len(self))[int(index)]]
        elif not isinstance(index, slice):
            index = np.asarray(index)
            index = index if index.size else index.astype(np.bool_ if index.dtype == np.bool_ else np.int64)
        chosen = replace(
            self,
            boxes=self.boxes[index],
            scores=self.scores[index],
            class_ids=self.class_ids[index],
            cells=self.cells[index],
            track_ids=None if self.track_ids is None else self.track_ids[index],
        )
        if "crop_masks" in self.__dict__:
            crops = tuple(self.crop_masks[i] for i in np.arange(len(self))[index])
            chosen.__dict__["crop_masks"] = crops
        return chosen

    def __iter__(self) -> Iterator[Instances]:
        return (self[i] for i in range(len(self)))

    def with_track_ids(self, track_ids: NDArray[np.int64]) -> Instances:
        """The same instances with a tracker's ids, int64 (N,). Masks that were pasted already are kept."""
        instances = replace(self, track_ids=track_ids)
        if "crop_masks" in self.__dict__:
            instances.__dict__["crop_masks"] = self.crop_masks
        return instances

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
        """The mask of every instance inside its box: much cheaper than `masks`. Made once and kept."""
        return self.cells.paste(self.frame_size)

    @cached_property
    def masks(self) -> NDArray[np.bool_]:
        """Masks of the whole frame, bool (N, H, W). Made once and kept; see crop_masks and to_rle."""
        masks = np.zeros((len(self), *self.frame_size), np.bool_)
        for mask, crop in zip(masks, self.crop_masks, strict=True):
            crop_h, crop_w = crop.mask.shape
            mask[crop.y : crop.y + crop_h, crop.x : crop.x + crop_w] = crop.mask
        return masks

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """Pixels in every mask, int64 (N,)."""
        return np.array([crop.area for crop in self.crop_masks], np.int64)

    def draw(
        self,
        image: Image,
        labels: Sequence[str] | Literal[False] | None = None,
        *,
        color: Color = "auto",
        masks_only: bool = False,
    ) -> NDArray[np.uint8]:
        """A copy of the image with the instances on it; see `pumpseg.draw`."""
        return draw(image, self, labels, color=color, masks_only=masks_only)

    def save(
        self,
        path: str | Path,
        image: Image,
        labels: Sequence[str] | Literal[False] | None = None,
        *,
        color: Color = "auto",
        masks_only: bool = False,
    ) -> None:
        """Write `draw(image, ...)` to an image file in the format of its suffix. Raises SinkError if it cannot."""
        check_image_format(Path(path))
        write_image(Path(path), self.draw(image, labels, color=color, masks_only=masks_only))

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
