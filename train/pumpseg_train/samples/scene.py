"""A picture with its instances, and the geometry that turns photos and cut-outs into new ones."""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from pumpseg.errors import DatasetError
from pumpseg_train.dataset.class_ids import CROWD, OTHER
from pumpseg_train.dataset.labelled_set import Photo
from pumpseg_train.dataset.photo_file import load_image

# Less visible instances become crowd regions.
_MIN_VISIBLE = 0.15
_MIN_PIXELS = 40
_MAX_PHOTO = 1280

MIN_CUTOUT = 48
"""Pixels of the longer side: smaller objects are too blurred to be enlarged."""
MAX_CUTOUT = 400
"""Pixels of the longer side: larger ones are pasted no larger, and cost time."""


@dataclass(frozen=True)
class Instance:
    """A mask uint8 (h, w) of 0..255 whose first pixel is at x, y of the picture; class_id from 1, CROWD or OTHER."""

    class_id: int
    x: int
    y: int
    mask: np.ndarray


@dataclass(frozen=True)
class Cutout:
    """An object without its surroundings: uint8 RGB (h, w, 3), alpha uint8 (h, w), class_id from 1, or OTHER."""

    class_id: int
    image: np.ndarray
    alpha: np.ndarray


@dataclass
class Scene:
    """A picture being composed: uint8 RGB (H, W, 3), full-size masks uint8 (H, W) of 0..255 back to front."""

    image: np.ndarray
    class_ids: list[int]
    masks: list[np.ndarray]
    areas: list[float]  # of each mask before anything covered it

    def paste(self, cutout: Cutout, matrix: np.ndarray) -> None:
        """Puts a cut-out, moved by the affine `matrix` (2, 3), in front of everything."""
        height, width = cutout.alpha.shape
        corners = matrix[:, :2] @ np.array([[0, width, 0, width], [0, 0, height, height]]) + matrix[:, 2:]
        limits = np.array(self.image.shape[1::-1])
        low = np.clip(np.floor(corners.min(axis=1)).astype(int) - 1, 0, limits)
        high = np.clip(np.ceil(corners.max(axis=1)).astype(int) + 1, 0, limits)
        if (high <= low).any():
            return
        moved = np.column_stack([matrix[:, :2], matrix[:, 2] - low])
        size = (int(high[0] - low[0]), int(high[1] - low[1]))
        alpha = warp_affine(cutout.alpha, moved, size)
        if not alpha.any():
            return
        region = np.s_[low[1] : high[1], low[0] : high[0]]
        colour = warp_affine(cutout.image, moved, size, borderMode=cv2.BORDER_REPLICATE)
        weight = (alpha.astype(np.float32) / 255)[..., None]
        self.image[region] = (colour * weight + self.image[region] * (1 - weight)).astype(np.uint8)
        for mask in self.masks:
            np.minimum(mask[region], 255 - alpha, out=mask[region])
        self.class_ids.append(cutout.class_id)
        self.masks.append(np.zeros(self.image.shape[:2], np.uint8))
        self.masks[-1][region] = alpha
        self.areas.append(float(cv2.countNonZero(cutout.alpha)) * _scale(matrix) ** 2)

    def instances(self) -> list[Instance]:
        """The visible instances; of what is nearly hidden or tiny, those of a class become crowd regions."""
        found = []
        for class_id, mask, area in zip(self.class_ids, self.masks, self.areas, strict=True):
            visible = mask > 127
            count = int(np.count_nonzero(visible))
            if count == 0:
                continue
            x, y, width, height = cv2.boundingRect(visible.view(np.uint8))
            if count < _MIN_PIXELS or count < _MIN_VISIBLE * area:
                if class_id == OTHER:
                    continue
                class_id = CROWD
            found.append(Instance(class_id, x, y, mask[y : y + height, x : x + width]))
        return found


@functools.lru_cache(maxsize=512)
def photo_instances(photo: Photo) -> tuple[np.ndarray, tuple[Instance, ...]]:
    """The photo, uint8 RGB, shrunk to a useful size, and its instances with crowd regions last.

    Raises:
        DatasetError: the photo cannot be read, or has another shape than the annotations say.
    """
    image = load_image(photo.path, _MAX_PHOTO)
    height, width = image.shape[:2]
    if abs(width * photo.height - height * photo.width) > 2 * max(photo.width, photo.height):
        raise DatasetError(
            f"{photo.path} is {width}x{height}, its annotations are for {photo.width}x{photo.height}: "
            "a picture turned by its EXIF tag must be annotated upright"
        )
    instances = []
    for annotation in sorted(photo.annotations, key=lambda annotation: annotation.crowd):
        mask = annotation.mask(photo.width, photo.height) * np.uint8(255)
        if mask.shape != (height, width):
            mask = np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        x, y, w, h = cv2.boundingRect(mask)
        if w and h:
            class_id = CROWD if annotation.crowd else annotation.class_id
            instances.append(Instance(class_id, x, y, mask[y : y + h, x : x + w].copy()))
    if photo.partly_labelled:
        instances.append(Instance(CROWD, 0, 0, np.full((height, width), 255, np.uint8)))
    return image, tuple(instances)


def warp(image: np.ndarray, instances: Iterable[Instance], matrix: np.ndarray, size: int, fill: int) -> Scene:
    """A photo and its instances seen through the affine `matrix` (2, 3), on a square of `size` pixels."""
    scene = Scene(warp_affine(image, matrix, (size, size), borderValue=(fill, fill, fill)), [], [], [])
    scale = _scale(matrix)
    for instance in instances:
        moved = matrix.copy()
        moved[:, 2] += matrix[:, :2] @ (instance.x, instance.y)
        scene.class_ids.append(instance.class_id)
        scene.masks.append(warp_affine(instance.mask, moved, (size, size)))
        scene.areas.append(float(cv2.countNonZero(instance.mask)) * scale**2)
    return scene


def mosaic(quarters: Sequence[Scene]) -> Scene:
    """Four scenes of one size as one: top left, top right, bottom left, bottom right (YOLOv4, section 3.3)."""
    height, width = quarters[0].image.shape[:2]
    whole = Scene(np.empty((2 * height, 2 * width, 3), np.uint8), [], [], [])
    for number, quarter in enumerate(quarters):
        rows = slice(number // 2 * height, number // 2 * height + height)
        columns = slice(number % 2 * width, number % 2 * width + width)
        whole.image[rows, columns] = quarter.image
        for mask in quarter.masks:
            whole.masks.append(np.zeros((2 * height, 2 * width), np.uint8))
            whole.masks[-1][rows, columns] = mask
        whole.class_ids += quarter.class_ids
        whole.areas += quarter.areas
    return whole


def affinity(
    scale: float,
    degrees: float,
    flip: bool,
    source: tuple[float, float],
    target: tuple[float, float],
    stretch: float = 1.0,
) -> np.ndarray:
    """The affine matrix (2, 3) that scales, mirrors and turns about the point `source` and brings it to `target`.

    `stretch` is the factor of width to height; areas stay as `scale` says.
    """
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    wider = np.sqrt(stretch)
    linear = scale * turn @ np.diag([-wider if flip else wider, 1 / wider])
    return np.column_stack([linear, np.array(target) - linear @ np.array(source)])


def cut_out(image: np.ndarray, instance: Instance, longest: int | None = None) -> Cutout:
    """The pixels of an instance, shrunk to sides of at most `longest`.

    The edge of its mask is drawn in a little, so that no background shows.
    """
    height, width = instance.mask.shape
    colour = image[instance.y : instance.y + height, instance.x : instance.x + width]
    alpha = cv2.copyMakeBorder(instance.mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    if min(height, width) > 40:
        alpha = cv2.erode(alpha, np.ones((3, 3), np.uint8))
    colour = cv2.copyMakeBorder(colour, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    if longest and max(alpha.shape) > longest:
        scale = longest / max(alpha.shape)
        colour, alpha = (cv2.resize(x, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for x in (colour, alpha))
    return Cutout(instance.class_id, colour, alpha)


def warp_affine(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int], **border: Any) -> np.ndarray:
    """`cv2.warpAffine` to `size` (w, h) that averages where the picture shrinks, instead of skipping pixels."""
    scale = _scale(matrix)
    if scale < 0.6 and scale * min(image.shape[:2]) >= 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        linear = matrix[:, :2] / scale
        shift = matrix[:, 2] + matrix[:, :2] @ np.full(2, 0.5 / scale - 0.5)
        matrix = np.column_stack([linear, shift])
    return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, **border)


def _scale(matrix: np.ndarray) -> float:
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
