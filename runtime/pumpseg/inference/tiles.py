"""Large pictures of many small things: overlapping tiles of a frame, and one list of what they show.

As in SAHI (Akyon et al. 2022, arXiv 2202.06934, section 3): the model sees the whole frame for what is large, and
tiles of it for what is small; what both see counts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pumpseg.instances import Instances
from pumpseg.masks.paste import shared_pixels

MAX_TILES = 16  # 257 tiles: a frame of 4K in them is larger than life, and one takes seconds
OVERLAP = 0.25  # of neighbouring tiles: what is smaller than that lies whole in one of them
_CUT = 0.01  # of the tile's side: a box that comes so near to an inner border may be cut
_SAME = 0.6  # two masks that share so much of the smaller one show one thing


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
    """What was found in tiles of a frame (height, width) as instances of the frame, best score first.

    What ends at a border inside the frame is left out, since another tile or the whole frame shows more of it. Of
    instances of a class from different tiles whose masks share most of the smaller one, the best stays.
    """
    everything = [
        _in_frame(instances[_uncut(tile, instances, frame_size)], tile, frame_size) for tile, instances in found
    ]
    together = Instances.concatenate(everything)
    origin = np.repeat(np.arange(len(everything)), [len(instances) for instances in everything])
    order = np.argsort(-together.scores, kind="stable")
    return _once(together[order], origin[order])


def _uncut(tile: Tile, instances: Instances, frame_size: tuple[int, int]) -> NDArray[np.bool_]:
    """Which instances (N,) of a tile do not end at a border of it that lies inside the frame."""
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
    """Without what a better one of another tile shows already; instances by falling score, origin (N,)."""
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
