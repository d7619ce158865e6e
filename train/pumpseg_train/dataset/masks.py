"""Masks in their forms, pixels, COCO RLE counts and polygons, and turned upright as EXIF tags say."""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from pumpseg.errors import DatasetError
from pumpseg.masks.polygons import Ring, trace
from pumpseg.masks.rle import string_to_counts

MAX_PIXELS = 178_956_970  # of a picture, all that Pillow decodes
MAX_COORDINATE = 1e6  # pixels
MAX_OUTLINE = 4e6  # pixels around a polygon, for each of which pycocotools takes 80 bytes

_SHARED_EDGE = 0.01  # of the pixels of several polygons


def mask_record(mask: NDArray[Any]) -> dict[str, Any]:
    """bool (h, w), not empty, to COCO fields: `bbox` [x, y, w, h] and `area` in pixels, `segmentation` as
    compressed RLE with its counts as text."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return {
        "bbox": [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1],
        "area": int(np.count_nonzero(mask)),
        "segmentation": encode(mask),
    }


def encode(mask: NDArray[Any]) -> dict[str, Any]:
    """(h, w), everything but 0 set, to compressed COCO RLE as json holds it."""
    rle = coco_mask.encode(np.asfortranarray(mask != 0, dtype=np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def decode(segmentation: Any, width: int, height: int) -> NDArray[np.uint8]:
    """A COCO segmentation, polygons or RLE counts of any kind, to uint8 (height, width) of 0 and 1.

    Raises:
        DatasetError: polygons as `ring_of` says, or RLE counts that do not cover their picture: pycocotools would take
            any memory for these.
    """
    encoded = segmentation
    if isinstance(encoded, list):
        polygons = [ring_of(points).ravel().tolist() for points in encoded]
        encoded = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    elif isinstance(encoded["counts"], list):
        rows, columns = encoded["size"]
        _check_counts(_run_lengths(encoded["counts"]), rows, columns)
        encoded = coco_mask.frPyObjects(encoded, rows, columns)
    return coco_mask.decode(encoded)


def readable_segmentation(segmentation: Any) -> tuple[Any, str, str]:
    """What can be read of a COCO segmentation (None: nothing), the kind of fault that it has, if any, and its detail.

    RLE counts are checked in full, since pycocotools ends the process on some invalid ones.
    """
    if not segmentation:
        return None, "no mask", f"its segmentation is {segmentation!r}"
    try:
        if isinstance(segmentation, dict):
            return _readable_rle(segmentation), "", ""
        if not isinstance(segmentation, list):
            raise TypeError(f"it is neither polygons nor RLE counts: {segmentation!r:.60}")
        found = _polygons(segmentation)
        polygons = [points for points in found if ring_of(points).size >= 6]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        return None, "mask damaged", f"{type(error).__name__} {error}"
    if len(polygons) < len(found):
        return polygons or None, "mask damaged" if polygons else "no mask", "a polygon of fewer than 3 corners"
    return polygons, "", ""


def _readable_rle(segmentation: dict[str, Any]) -> dict[str, Any]:
    counts, (rows, columns) = segmentation["counts"], _whole_numbers(segmentation["size"])
    lengths = _run_lengths(counts)
    _check_counts(lengths, rows, columns)
    return {"size": [rows, columns], "counts": counts if isinstance(counts, str) else lengths.tolist()}


def _run_lengths(counts: Any) -> NDArray[np.int64]:
    """RLE counts of either kind. Raises TypeError, ValueError or OverflowError for what is none."""
    return string_to_counts(counts) if isinstance(counts, str) else np.asarray(_whole_numbers(counts), np.int64)


def _whole_numbers(values: Any) -> list[int]:
    if not isinstance(values, list) or not all(
        isinstance(n, int) or (isinstance(n, float) and n.is_integer()) for n in values
    ):
        raise TypeError(f"RLE counts and their size are lists of whole numbers, not {values!r:.60}")
    return [int(value) for value in values]


def _check_counts(counts: NDArray[np.int64], rows: int, columns: int) -> None:
    pixels = rows * columns
    if not 0 < pixels <= MAX_PIXELS or rows < 0:
        raise DatasetError(f"RLE counts of {columns}x{rows} pixels: from 1 to {MAX_PIXELS:,} are read")
    if len(counts) and counts.min() < 0:
        raise DatasetError(f"a run length is {counts.min()}")
    if not len(counts) or counts.max() > pixels or counts.sum() != pixels:
        raise DatasetError(f"RLE counts cover {sum(counts.tolist())} pixels of {columns}x{rows}")


def _polygons(segmentation: list[Any]) -> list[Any]:
    """The polygons of a segmentation, whose corners may be pairs, and which may be a single one without a list."""
    if _is_pairs(segmentation) or not any(isinstance(part, list) for part in segmentation):
        segmentation = [segmentation]
    return [list(chain.from_iterable(points)) if _is_pairs(points) else points for points in segmentation]


def _is_pairs(points: Any) -> bool:
    return isinstance(points, list) and all(isinstance(corner, list) and len(corner) == 2 for corner in points)


def one_ring(rings: Sequence[Ring]) -> Ring:
    """Outlines and holes joined to a single closed line, for formats that know one polygon an instance.

    A bridge of no width, walked there and back, joins each ring at its nearest corner, as Ultralytics'
    `merge_multi_segment` does; filled by the even-odd rule the bridges vanish.
    """
    joined, *rest = sorted(rings, key=len, reverse=True)
    for ring in rest:
        distances = np.abs(joined[:, None] - ring[None]).sum(axis=2)
        here, there = np.unravel_index(int(distances.argmin()), distances.shape)
        ring = np.roll(ring, -int(there), axis=0)
        joined = np.concatenate([joined[: here + 1], ring, ring[:1], joined[here:]])
    return joined


def rings_of(segmentation: Any, width: int, height: int) -> list[Ring]:
    """The polygons of a COCO segmentation as they are, or the traced outlines and holes of RLE counts.

    Polygons that overlap are traced, too: by the even-odd rule there would be a hole where they do.
    """
    if isinstance(segmentation, list) and not _overlap(segmentation, width, height):
        return [ring_of(points) for points in segmentation]
    return [ring for outline, holes in trace(decode(segmentation, width, height)) for ring in (outline, *holes)]


def _overlap(polygons: Sequence[Any], width: int, height: int) -> bool:
    """Whether polygons of one instance share more than the pixels along their edges."""
    if len(polygons) < 2:
        return False
    alone = sum(int(decode([points], width, height).sum()) for points in polygons)
    together = int(decode(list(polygons), width, height).sum())
    return alone - together > _SHARED_EDGE * together


def finite(coordinates: Iterable[Any]) -> list[float]:
    """The coordinates as floats. Raises ValueError for NaN, infinity, and what is beyond MAX_COORDINATE."""
    numbers = [float(value) for value in coordinates]
    if bad := [number for number in numbers if not abs(number) <= MAX_COORDINATE]:
        raise ValueError(f"a coordinate is {bad[0]}")
    return numbers


def ring_of(points: Any) -> Ring:
    """Corners float64 (N, 2) of a polygon x y x y ...

    Raises:
        DatasetError: it is not a flat list of finite numbers, two a corner, or longer than MAX_OUTLINE.
    """
    try:
        numbers = finite(points)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"a polygon is not a flat list of x, y coordinates: {error}: {points!r:.60}") from None
    if len(numbers) % 2:
        raise DatasetError(f"a polygon of {len(numbers)} coordinates is not a list of x, y pairs")
    ring = np.reshape(numbers, (-1, 2))
    if (outline := float(np.abs(ring - np.roll(ring, 1, axis=0)).sum())) > MAX_OUTLINE:
        raise DatasetError(f"a polygon of {len(ring)} corners is {outline:,.0f} pixels around, more than is read")
    return ring


def clip_polygons(polygons: Sequence[Sequence[float]], width: int, height: int) -> tuple[list[list[float]], bool]:
    """The polygons, flat x y x y ..., with every corner moved into the picture, and whether any had to be.

    Raises:
        DatasetError: as `ring_of`.
    """
    clipped = []
    moved = False
    for points in polygons:
        ring = ring_of(points)
        inside = np.clip(ring, 0, (width, height))
        moved = moved or bool((np.abs(inside - ring) > 1).any())  # editors overshoot the border by a pixel
        clipped.append([round(float(value), 2) for value in inside.ravel()])
    return clipped, moved


def upright(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Pixels (h, w, ...) as stored in a file, turned as its EXIF orientation (1..8) says they should be seen."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    return np.ascontiguousarray(array[rows, columns])


def upright_segmentation(segmentation: Any, orientation: int, width: int, height: int) -> Any:
    """A COCO segmentation of stored pixels, turned like the picture, which is width x height when upright."""
    if orientation == 1:
        return segmentation
    stored = (height, width) if orientation >= 5 else (width, height)
    if not isinstance(segmentation, list):
        return encode(upright(decode(segmentation, *stored), orientation))
    turned = []
    for points in segmentation:
        ring = np.asarray(points, np.float64).reshape(-1, 2)
        if orientation >= 5:
            ring = ring[:, ::-1]
        x = width - ring[:, 0] if orientation in (2, 3, 6, 7) else ring[:, 0]
        y = height - ring[:, 1] if orientation in (3, 4, 7, 8) else ring[:, 1]
        turned.append(np.stack([x, y], axis=1).ravel().tolist())
    return turned
