"""RoIAlign (Mask R-CNN, section 3) as two matrix products, with the border rule of ONNX RoiAlign."""

from typing import Any

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
    """Features (B * R, pool, pool, C) of boxes (B, R, 4), each from the level that fits its size."""
    levels = roi_levels(boxes, profile.roi_level_size, len(profile.strides))
    pooled = roi_align(pyramid, profile.strides, boxes, levels, pool, profile.roi_sampling_ratio)
    return ops.reshape(pooled, (-1, pool, pool, profile.fpn_channels))


def roi_align(features: list[Any], strides: tuple[int, ...], boxes: Any, levels: Any, pool: int, ratio: int) -> Any:
    """Pools boxes (B, R, 4) from their pyramid level to (B, R, pool, pool, C).

    `features` are (B, H, W, C) maps at `strides`; `levels` int (B, R) says which one a box reads;
    each cell averages ratio x ratio bilinear samples. Bilinear sampling is separable and linear in
    the map, so averaging is folded into one weight row per output row and column. All levels are
    pooled and the unwanted ones zeroed: dense products beat gathers, and have cheap gradients.
    Equals ONNX RoiAlign (mode avg, coordinate_transformation_mode half_pixel).
    """
    pooled = 0.0
    for level, (feature, stride) in enumerate(zip(features, strides, strict=True)):
        height, width = feature.shape[1:3]
        rows = _sample_weights(boxes[..., 1] / stride, boxes[..., 3] / stride, height, pool, ratio)
        columns = _sample_weights(boxes[..., 0] / stride, boxes[..., 2] / stride, width, pool, ratio)
        chosen = ops.cast(ops.equal(levels, level), rows.dtype)
        rows = rows * ops.expand_dims(ops.expand_dims(chosen, -1), -1)
        pooled += ops.einsum("brjx,brixc->brijc", columns, ops.einsum("briy,byxc->brixc", rows, feature))
    return pooled


def _sample_weights(start: Any, end: Any, size: int, pool: int, ratio: int) -> Any:
    """Weights (B, R, pool, size) of the cells of one axis for RoI sides from `start` to `end` (B, R), in cells.

    Samples are clamped to the cell centres of the border, and count nothing beyond one cell outside
    the map, as in ONNX Runtime's `roialign.cc`, `PreCalcForBilinearInterpolate`.
    """
    offsets = (ops.arange(pool * ratio, dtype="float32") + 0.5) / (pool * ratio)
    start, end = ops.expand_dims(start, -1), ops.expand_dims(end, -1)
    at = start + (end - start) * offsets - 0.5  # (B, R, pool * ratio)
    inside = ops.cast(ops.logical_and(at >= -1, at <= size), at.dtype)
    at = ops.clip(at, 0, size - 1)
    weights = ops.maximum(1 - ops.abs(ops.expand_dims(at, -1) - ops.arange(size, dtype="float32")), 0)
    weights = weights * ops.expand_dims(inside, -1)
    return ops.mean(ops.reshape(weights, (*ops.shape(at)[:-1], pool, ratio, size)), axis=-2)
