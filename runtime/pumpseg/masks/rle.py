"""COCO run-length encoding from a crop to the string, without making the full-frame mask.

The runs go down the columns of the frame (column-major), the first one counts zeros. The string form is
pycocotools' own (`rleToString` in cocodataset/cocoapi common/maskApi.c): five bits a character, every count
from the fourth on stored as the difference to the count two before.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from pumpseg.opencv import cv2


class Rle(TypedDict):
    """What pycocotools and COCO json call a compressed RLE; size is [height, width]."""

    size: list[int]
    counts: str


def encode_crop(crop: NDArray[np.bool_], x: int, y: int, frame_size: tuple[int, int]) -> Rle:
    """RLE of a frame's mask that is `crop` at column x, row y and empty elsewhere.

    crop: bool (h, w), inside the frame; either side may be 0. frame_size: (height, width).
    Raises ValueError if the crop reaches out of the frame.
    """
    return {"size": list(frame_size), "counts": counts_to_string(crop_counts(crop, x, y, frame_size))}


def encode(mask: NDArray[np.bool_]) -> Rle:
    """RLE of a whole mask, bool (H, W)."""
    return encode_crop(mask, 0, 0, (mask.shape[0], mask.shape[1]))


def decode(rle: Rle) -> NDArray[np.bool_]:
    """Mask bool (H, W) of an RLE. Raises ValueError if the counts do not add up to the size."""
    height, width = rle["size"]
    counts = string_to_counts(rle["counts"])
    if (counts < 0).any() or counts.sum() != height * width:
        raise ValueError(f"the RLE counts add up to {counts.sum()}, not to its size {height}x{width}")
    values = np.arange(len(counts)) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, counts).reshape(width, height).T)


def crop_counts(crop: NDArray[np.bool_], x: int, y: int, frame_size: tuple[int, int]) -> NDArray[np.int64]:
    """RLE counts, int64 (K,), zeros first, of the frame-sized mask that encode_crop describes."""
    crop_h, crop_w = crop.shape
    frame_h, frame_w = frame_size
    if x < 0 or y < 0 or x + crop_w > frame_w or y + crop_h > frame_h:
        raise ValueError(f"a {crop_h}x{crop_w} crop at x={x}, y={y} leaves a {frame_h}x{frame_w} frame")
    if crop.size == 0:
        return np.array([frame_h * frame_w], np.int64)

    # A zero below every column makes each run end in its own column, so that starts and ends alternate.
    stride = crop_h + 1
    columns = np.zeros(crop_w * stride + 1, np.uint8)
    cv2.transpose(crop.view(np.uint8), dst=columns[1:].reshape(crop_w, stride)[:, :crop_h])
    changes = np.flatnonzero(columns[1:] != columns[:-1])
    column, row = np.divmod(changes, stride)
    borders = (x + column) * frame_h + y + row

    # A run to the bottom of the frame continues at the top of the next column.
    starts, ends = borders[0::2], borders[1::2]
    continues = ends[:-1] == starts[1:]
    starts = starts[np.concatenate([[True], ~continues])] if len(starts) else starts
    ends = ends[np.concatenate([~continues, [True]])] if len(ends) else ends

    edges = np.empty(2 * len(starts) + 2, np.int64)
    edges[0], edges[-1] = 0, frame_h * frame_w
    edges[1:-1:2], edges[2:-1:2] = starts, ends
    counts = np.diff(edges)
    return counts[:-1] if len(starts) and counts[-1] == 0 else counts


def counts_to_string(counts: NDArray[np.int64]) -> str:
    """Compressed string of RLE counts (K,), as pycocotools writes it."""
    rest = counts.astype(np.int64)
    rest[3:] -= counts[1:-2]
    pending = np.ones(len(rest), np.bool_)
    characters: list[NDArray[np.uint8]] = []
    used: list[NDArray[np.bool_]] = []
    while pending.any():
        used.append(pending)
        bits = rest & 0x1F
        rest = rest >> 5
        pending = pending & np.where(bits & 0x10, rest != -1, rest != 0)
        characters.append((bits + 48 + (pending << 5)).astype(np.uint8))
    if not characters:
        return ""
    return np.stack(characters, 1)[np.stack(used, 1)].tobytes().decode("ascii")


def string_to_counts(string: str) -> NDArray[np.int64]:
    """RLE counts, int64 (K,), of a compressed string. Raises ValueError if the string is not one."""
    try:
        codes = np.frombuffer(string.encode("ascii"), np.uint8).astype(np.int64) - 48
    except UnicodeEncodeError:
        raise ValueError("an RLE string must be plain ASCII") from None
    if not len(codes):
        return np.zeros(0, np.int64)
    last = (codes & 0x20) == 0
    if not last[-1] or (codes < 0).any() or (codes > 63).any():
        raise ValueError("the RLE string is truncated or has characters outside its alphabet")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 12:
        raise ValueError("the RLE string has a count of more than 60 bits")
    place = np.arange(len(codes)) - np.repeat(starts, lengths)
    counts = np.add.reduceat((codes & 0x1F) << (5 * place), starts)
    counts -= np.where(codes[ends] & 0x10, 1 << (5 * lengths), 0)
    # Counts 0, 1 and 2 are stored as they are; after them odd and even counts are two chains of differences.
    counts[1::2] = np.cumsum(counts[1::2])
    counts[2::2] = np.cumsum(counts[2::2])
    return counts
