"""Overlapping tiles of a frame, for many small objects in a large picture, and the merging of their detections.

As in SAHI (Akyon et al. 2022, arXiv 2202.06934, section 3): the model runs on the whole frame for large objects and
on its tiles for small ones; duplicate detections are merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pumpseg.instances import Instances
from pumpseg.masks.paste import shared_pixels

MAX_TILES = 16  # 257 inferences a frame, which take seconds
OVERLAP = 0.25  # of neighbouring tiles: a smaller object is whole in one of them
_CUT = 0.01  # of the tile's side: a box this close to an inner border may be cut off
_SAME = 0.6  # two masks that share this much of the smaller one are one object


@dataclass(frozen=True)
class Tile:
    """Pixels [x, x + width) x [y, y + height) of a frame."""

    x: int
    y: int
    width: int
    height: int

    def of(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return frame[self.y : self.y + self.height, self.x : self.x + self.width]


def tile_grid(frame_size: tuple[int, int], tiles: int) -> list[Tile]:
    """The whole frame (height, width), then tiles x tiles tiles of one size that cover it, rows first.

    Neighbours overlap by a quarter of their side, rounded up. One tile is the frame itself, once.
    """
    height, width = frame_size
    whole = Tile(0, 0, width, height)
    if tiles == 1:
        return [whole]
    spans = [_spans(side, tiles) for side in (height, width)]
    return [whole, *(Tile(x, y, w, h) for y, h in spans[0] for x, w in spans[1])]


def _spans(length: int, tiles: int) -> list[tuple[int, int]]:
    side = int(np.ceil(length / (tiles - (tiles - 1) * OVERLAP)))
    return [(round(i * (length - side) / (tiles - 1)), side) for i in range(tiles)]


def merge(found: Sequence[tuple[Tile, Instances]], frame_size: tuple[int, int]) -> Instances:
    """The instances of tiles of a frame (height, width) as instances of the frame, best score first.

    Instances that end at a border inside the frame are left out: another tile or the whole frame shows more of them. Of
    instances of a class from different tiles whose masks share most of the smaller one, the best is kept.
    """
    everything = [
        _in_frame(instances[_uncut(tile, instances, frame_size)], tile, frame_size) for tile, instances in found
    ]
    together = Instances.concatenate(everything)
    origin = np.repeat(np.arange(len(everything)), [len(instances) for instances in everything])
    order = np.argsort(-together.scores, kind="stable")
    return _once(together[order], origin[order])


def _uncut(tile: Tile, instances: Instances, frame_size: tuple[int, int]) -> NDArray[np.bool_]:
    """Which instances (N,) of a tile do not end at one of its borders inside the frame."""
    height, width = frame_size
    x1, y1, x2, y2 = instances.boxes.T
    margin_x, margin_y = _CUT * tile.width, _CUT * tile.height
    kept = np.ones(len(instances), np.bool_)
    if tile.x > 0:
        kept &= x1 > margin_x
    if tile.y > 0:
        kept &= y1 > margin_y
    if tile.x + tile.width < width:
        kept &= x2 < tile.width - margin_x
    if tile.y + tile.height < height:
        kept &= y2 < tile.height - margin_y
    return kept


def _in_frame(instances: Instances, tile: Tile, frame_size: tuple[int, int]) -> Instances:
    shift = np.array([tile.x, tile.y] * 2, np.float32)
    cells = replace(instances.cells, boxes=instances.cells.boxes + shift)
    return replace(instances, boxes=instances.boxes + shift, cells=cells, frame_size=frame_size)


def _once(instances: Instances, origin: NDArray[np.int64]) -> Instances:
    """Those that no better one of another tile shows already; instances by falling score, origin (N,)."""
    crops = instances.crop_masks
    areas = instances.areas
    x1, y1, x2, y2 = instances.boxes.T
    kept: list[int] = []
    for i in range(len(instances)):
        others = np.array(kept, np.int64)
        others = others[(instances.class_ids[others] == instances.class_ids[i]) & (origin[others] != origin[i])]
        near = (x1[others] < x2[i]) & (x1[i] < x2[others]) & (y1[others] < y2[i]) & (y1[i] < y2[others])
        if not any(shared_pixels(crops[i], crops[j]) > _SAME * min(areas[i], areas[j]) for j in others[near]):
            kept.append(i)
    return instances[np.array(kept, np.int64)]
