"""The picture of an event, and what of it is blurred before it leaves the machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from pumpseg.errors import OptionError
from pumpseg.images import encode_image
from pumpseg.instances import Instances
from pumpseg.opencv import cv2
from pumpseg.video.result import Result

BlurKind: TypeAlias = Literal["instances", "background", "all"]
BLUR_KINDS: tuple[BlurKind, ...] = get_args(BlurKind)

_CELLS = 6
"""Across the shorter side of what is blurred: nobody is recognised by so few."""
_MARGIN = 0.01
"""By which a blurred mask is larger than the instance's, as a share of the frame's shorter side."""


@dataclass(frozen=True)
class Blur:
    """What is blurred: the "instances" by their masks, the "background" without them, or "all" of the frame.

    classes: of the instances that "instances" blurs and "background" keeps; all by default.
    Raises OptionError for another kind.
    """

    kind: BlurKind = "instances"
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in BLUR_KINDS:
            raise OptionError(f"unknown blur {self.kind!r}; there are {', '.join(BLUR_KINDS)}")

    def apply(self, frame: NDArray[np.uint8], instances: Instances) -> NDArray[np.uint8]:
        """A blurred copy of a frame, uint8 BGR (H, W, 3), in which the instances were found."""
        if self.kind == "all":
            return _mosaic(frame)
        chosen = [
            crop
            for crop, label in zip(instances.crop_masks, instances.labels, strict=True)
            if (not self.classes or label in self.classes) and crop.mask.size
        ]
        if self.kind == "background":
            blurred = _mosaic(frame)
            for crop in chosen:
                height, width = crop.mask.shape
                place = np.s_[crop.y : crop.y + height, crop.x : crop.x + width]
                cv2.copyTo(frame[place], crop.mask.view(np.uint8), blurred[place])
            return blurred
        blurred = frame.copy()
        margin = max(2, round(_MARGIN * min(frame.shape[:2])))
        grow = np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)
        for crop in chosen:
            height, width = crop.mask.shape
            top, left = max(0, crop.y - margin), max(0, crop.x - margin)
            place = np.s_[top : crop.y + height + margin, left : crop.x + width + margin]
            region = frame[place]
            mask = np.zeros(region.shape[:2], np.uint8)
            mask[crop.y - top :, crop.x - left :][:height, :width] = crop.mask
            cv2.copyTo(_mosaic(region), cv2.dilate(mask, grow), blurred[place])
        return blurred


def take_snapshot(result: Result, blur: Blur | None = None) -> bytes:
    """JPEG of a result's frame with its instances drawn on it. blur: what is blurred below the drawing."""
    if blur is None:
        return encode_image(result.annotated, Path("snapshot.jpg"))
    drawn = result.style.draw(blur.apply(result.frame, result.instances), result.instances, result.counts)
    return encode_image(drawn, Path("snapshot.jpg"))


def _mosaic(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    cell = max(1.0, min(height, width) / _CELLS)
    cells = (max(1, round(width / cell)), max(1, round(height / cell)))
    few = cv2.resize(image, cells, interpolation=cv2.INTER_AREA)
    return cv2.resize(few, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]
