"""Masks as polygons, along the edges of their pixels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pumpseg.opencv import cv2

Ring = NDArray[np.float64]
"""Corners (K, 2) of a closed polygon, x y in pixels, pixel (0, 0) covering 0..1."""


class Polygon(NamedTuple):
    """One piece of a mask: `shapely.Polygon(*polygon)` takes it as it is."""

    outline: Ring
    holes: list[Ring]


def trace(mask: NDArray[np.bool_ | np.uint8], x: int = 0, y: int = 0) -> list[Polygon]:
    """The pieces of a mask (h, w), each as its outline and its holes; the mask starts at column x, row y.

    Pixels that touch at a corner belong to one piece; the corners of holes are cut by half a pixel. Filling outline
    minus holes as pycocotools does gives the same mask again.
    """
    # Every pixel becomes 3x3 on a grid of half pixels, shared borders included, so that the outermost grid
    # points, which OpenCV traces, are the corners of the pixels.
    height, width = mask.shape
    grid = np.zeros((2 * height + 1, 2 * width + 1), np.uint8)
    grid[1::2, 1::2] = mask != 0
    grid = np.asarray(cv2.dilate(grid, np.ones((3, 3), np.uint8)), np.uint8)
    contours, hierarchy = cv2.findContours(grid, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = [contour[:, 0, :].astype(np.float64) / 2 + (x, y) for contour in contours]
    parents = hierarchy[0][:, 3] if len(rings) else []
    pieces: dict[int, Polygon] = {
        index: Polygon(ring, []) for index, (ring, parent) in enumerate(zip(rings, parents, strict=True)) if parent < 0
    }
    for ring, parent in zip(rings, parents, strict=True):
        if parent >= 0:
            pieces[int(parent)].holes.append(ring)
    return list(pieces.values())
