"""RoIAlign (Mask R-CNN, section 3) with the border rule of ONNX RoiAlign, and crop_and_resize."""

import math
from typing import Any

import numpy as np
from keras import ops

from pumpseg_train.model import boxes as bx
from pumpseg_train.model.profile import Profile


def roi_levels(boxes: Any, level_size: float, levels: int) -> Any:
    """Pyramid level int32 (...) of each box (..., 4): the last for sides from `level_size`, one less for each halving.

    Feature Pyramid Networks, equation 1, with the canonical size moved to the last level; by
    comparing areas, so that no rounding of a logarithm can differ from the exported graph.
    """
    areas = bx.area(boxes)
    return sum(ops.cast(areas >= (level_size / 2**step) ** 2, "int32") for step in range(levels - 1))


def pool_pyramid(pyramid: list[Any], boxes: Any, profile: Profile, pool: int) -> Any:
    """Features (B * R, pool, pool, C) of boxes (B, R, 4), each from the level of `pyramid` that fits its size."""
    pyramid, strides = pyramid[: profile.roi_levels], profile.strides[: profile.roi_levels]
    size = (pyramid[0].shape[1] * strides[0], pyramid[0].shape[2] * strides[0])
    levels = roi_levels(boxes, roi_level_size(profile, size), profile.roi_levels)
    if profile.compat.roi_corners:
        pooled = crop_and_resize(pyramid, boxes, levels, pool, size)
    else:
        pooled = roi_align(pyramid, strides, boxes, levels, pool, profile.roi_sampling_ratio)
    return ops.reshape(pooled, (-1, pool, pool, profile.fpn_channels))


def roi_level_size(profile: Profile, size: tuple[int, int]) -> float:
    """`profile.roi_level_size` in the pixels of boxes inside the model, for an input of `size` (h, w).

    Matterport measures boxes between the first and the last pixel, as a part of the image so measured.
    """
    (height, width), last = size, profile.compat.last_pixel
    return profile.roi_level_size * math.sqrt((height - last) * (width - last) / (height * width))


def crop_and_resize(features: list[Any], boxes: Any, levels: Any, pool: int, size: tuple[int, int]) -> Any:
    """Pools boxes (B, R, 4) from their pyramid level to (B, R, pool, pool, C) as tf.image.crop_and_resize.

    `features` are maps (B, H, W, C) of an input of `size` (h, w). The outermost of the pool x pool bilinear samples are
    in the box's corners, and the centres of the image's corner pixels are those of every map's. Beyond the border
    samples are clamped, as those of ONNX RoiAlign; tf.image.crop_and_resize puts zeros there.
    """
    sides = np.array([feature.shape[1:3] for feature in features])
    axes = []
    for axis in (0, 1):  # y, x
        last = ops.expand_dims(ops.take(ops.cast(sides[:, axis] - 1, "float32"), levels, axis=0), -1)
        factor = last / (size[axis] - 1)
        start, end = (ops.expand_dims(boxes[..., side], -1) * factor for side in (1 - axis, 3 - axis))
        axes.append(_neighbours(start + (end - start) * (ops.arange(pool, dtype="float32") / (pool - 1)), last))
    return _sample(features, levels, axes)


def roi_align(features: list[Any], strides: tuple[int, ...], boxes: Any, levels: Any, pool: int, ratio: int) -> Any:
    """Pools boxes (B, R, 4) from their pyramid level to (B, R, pool, pool, C).

    `features` are (B, H, W, C) maps at `strides`; `levels` int (B, R) says which one a box reads;
    each cell averages ratio x ratio bilinear samples. Equals ONNX RoiAlign (mode avg, coordinate_transformation_mode
    half_pixel): samples are clamped to the cell centres of the border, and count nothing beyond one cell outside the
    map (ONNX Runtime's `roialign.cc`, `PreCalcForBilinearInterpolate`).
    """
    sides = np.array([feature.shape[1:3] for feature in features])
    scale = ops.expand_dims(ops.take(ops.convert_to_tensor(1 / np.array(strides, np.float32)), levels, axis=0), -1)
    offsets = (ops.arange(pool * ratio, dtype="float32") + 0.5) / (pool * ratio)
    axes = []
    for axis in (0, 1):  # y, x
        last = ops.expand_dims(ops.take(ops.cast(sides[:, axis] - 1, "float32"), levels, axis=0), -1)
        start, end = (ops.expand_dims(boxes[..., side], -1) * scale for side in (1 - axis, 3 - axis))
        at = start + (end - start) * offsets - 0.5  # (B, R, pool * ratio)
        inside = ops.cast(ops.logical_and(at >= -1, at <= last + 1), at.dtype) / ratio
        axes.append([(index, weight * inside) for index, weight in _neighbours(at, last)])
    sampled = _sample(features, levels, axes)
    cells = (-1, boxes.shape[1], pool, ratio, pool, ratio, features[0].shape[-1])
    return ops.sum(ops.reshape(sampled, cells), axis=(3, 5))


_Neighbours = list[tuple[Any, Any]]


def _neighbours(at: Any, last: Any) -> _Neighbours:
    """The cells before and after positions (B, R, P), clamped to 0..last, and their bilinear weights."""
    at = ops.maximum(ops.minimum(at, last), 0)
    low = ops.floor(at)
    high = ops.minimum(low + 1, last)
    return [(ops.cast(low, "int32"), low + 1 - at), (ops.cast(high, "int32"), at - low)]


def _sample(features: list[Any], levels: Any, axes: list[_Neighbours]) -> Any:
    """Weighted sums (B, R, P, P, C) of the neighbours in y and x of each sample, on the level of each box.

    All maps are concatenated and the neighbours gathered from there: dense products over whole maps, the alternative,
    took 2.3 times as long, gradients included.
    """
    channels = features[0].shape[-1]
    cells = ops.concatenate([ops.reshape(feature, (-1, channels)) for feature in features], axis=0)
    batch = ops.shape(features[0])[0]
    sides = np.array([feature.shape[1:3] for feature in features])
    # Where each level begins among `cells`: an image's part of a level, times the images before.
    areas = sides.prod(axis=1)
    begins = ops.cumsum(ops.concatenate([ops.zeros((1,), "int32"), ops.cast(areas[:-1], "int32") * batch], axis=0))
    image_numbers = ops.reshape(ops.arange(batch), (-1, 1))
    begin = ops.take(begins, levels, axis=0) + image_numbers * ops.take(ops.cast(areas, "int32"), levels, axis=0)
    width = ops.reshape(ops.take(ops.cast(sides[:, 1], "int32"), levels, axis=0), (-1, levels.shape[1], 1, 1))
    begin = ops.reshape(begin, (-1, levels.shape[1], 1, 1))
    sampled = 0.0
    for y, y_weight in axes[0]:
        for x, x_weight in axes[1]:
            index = begin + ops.expand_dims(y, -1) * width + ops.expand_dims(x, -2)
            weight = ops.expand_dims(y_weight, -1) * ops.expand_dims(x_weight, -2)
            sampled += ops.cast(ops.take(cells, index, axis=0), weight.dtype) * ops.expand_dims(weight, -1)
    return sampled
