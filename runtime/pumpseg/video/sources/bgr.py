"""Decoded frames as upright BGR images."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pumpseg.opencv import cv2

_LEVEL = 0.02  # the share by which a display matrix may deviate from quarter turns and flips


class Turn(NamedTuple):
    """How a stored picture becomes the one to show: transposed first, then mirrored."""

    transposed: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @classmethod
    def of(cls, decoded: Any) -> Turn:
        """The turn that a decoded frame asks for."""
        from av.sidedata import sidedata

        # Of `decoded.side_data` frame and container refer to each other: decoded frames would pile up by the hundred
        # until the garbage collector comes by.
        container: Any = sidedata.SideDataContainer
        matrix = container(decoded).get("DISPLAYMATRIX")
        return cls() if matrix is None else cls.by_matrix(bytes(matrix))

    @classmethod
    def by_matrix(cls, matrix: bytes) -> Turn:
        """The turn that a display matrix asks for; none for a matrix of other angles.

        The matrix shows the point (x, y) at (a x + c y, b x + d y): ISO/IEC 14496-12, section 6.2.2, and
        libavutil/display.h.
        """
        a, b, _, c, d = struct.unpack_from("=5i", matrix)
        straight, crossed = abs(a) + abs(d), abs(b) + abs(c)
        if min(straight, crossed) > _LEVEL * max(straight, crossed):
            return cls()
        return cls(True, c < 0, b < 0) if crossed > straight else cls(False, a < 0, d < 0)

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture to show, uint8 (H, W, 3)."""
        if self.transposed:
            image = cv2.transpose(image)  # type: ignore[assignment]
        if self.mirror_x or self.mirror_y:
            image = cv2.flip(image, -1 if self.mirror_x and self.mirror_y else int(self.mirror_x))  # type: ignore[assignment]
        return image


def shown_pixel_aspect(turn: Turn, stream: Any) -> Fraction:
    """Width of a pixel by its height in the upright picture of a stream's frame; 1 if the stream does not say."""
    stored = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or Fraction(1)
    return 1 / stored if turn.transposed else stored


class BgrConverter:
    """Turns decoded frames into uint8 BGR (H, W, 3), turned and mirrored as their metadata say.

    It keeps libswscale's tables between frames, which takes a third of the time of `VideoFrame.to_ndarray`.
    """

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()

    def __call__(self, decoded: Any) -> NDArray[np.uint8]:
        image: NDArray[np.uint8] = self._reformatter.reformat(decoded, format="bgr24").to_ndarray()  # type: ignore[assignment]
        return Turn.of(decoded).apply(image)
