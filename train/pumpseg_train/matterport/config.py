"""Matterport's `Config`: its defaults, for those who subclass it, and the profile that any such object describes."""

import dataclasses
from typing import Any

import numpy as np

from pumpseg.errors import PumpsegError
from pumpseg.inference.letterbox import Rule
from pumpseg_train.model.matterport import IDENTITY_BLOCKS
from pumpseg_train.model.profile import PROFILES, Profile


class ConfigError(PumpsegError, ValueError):
    """A configuration that is not supported."""


class Config:
    """The values of mrcnn/config.py; subclass it as the one of mrcnn, which is accepted as well."""

    NAME: Any = None
    GPU_COUNT = 1
    IMAGES_PER_GPU = 2
    STEPS_PER_EPOCH = 1000
    VALIDATION_STEPS = 50
    BACKBONE: Any = "resnet101"
    BACKBONE_STRIDES: Any = (4, 8, 16, 32, 64)
    FPN_CLASSIF_FC_LAYERS_SIZE = 1024
    TOP_DOWN_PYRAMID_SIZE = 256
    NUM_CLASSES = 1
    RPN_ANCHOR_SCALES: Any = (32, 64, 128, 256, 512)
    RPN_ANCHOR_RATIOS: Any = (0.5, 1, 2)
    RPN_ANCHOR_STRIDE = 1
    RPN_NMS_THRESHOLD = 0.7
    RPN_TRAIN_ANCHORS_PER_IMAGE = 256
    PRE_NMS_LIMIT = 6000
    POST_NMS_ROIS_TRAINING = 2000
    POST_NMS_ROIS_INFERENCE = 1000
    USE_MINI_MASK = True
    MINI_MASK_SHAPE: Any = (56, 56)
    IMAGE_RESIZE_MODE = "square"
    IMAGE_MIN_DIM = 800
    IMAGE_MAX_DIM = 1024
    IMAGE_MIN_SCALE: Any = 0
    IMAGE_CHANNEL_COUNT = 3
    MEAN_PIXEL: Any = np.array([123.7, 116.8, 103.9])
    TRAIN_ROIS_PER_IMAGE = 200
    ROI_POSITIVE_RATIO = 0.33
    POOL_SIZE = 7
    MASK_POOL_SIZE = 14
    MASK_SHAPE: Any = (28, 28)
    MAX_GT_INSTANCES = 100
    RPN_BBOX_STD_DEV: Any = np.array([0.1, 0.1, 0.2, 0.2])
    BBOX_STD_DEV: Any = np.array([0.1, 0.1, 0.2, 0.2])
    DETECTION_MAX_INSTANCES = 100
    DETECTION_MIN_CONFIDENCE = 0.7
    DETECTION_NMS_THRESHOLD = 0.3
    LEARNING_RATE = 0.001
    LEARNING_MOMENTUM = 0.9
    WEIGHT_DECAY = 0.0001
    LOSS_WEIGHTS: Any = {  # noqa: RUF012  (as users write it)
        "rpn_class_loss": 1.0,
        "rpn_bbox_loss": 1.0,
        "mrcnn_class_loss": 1.0,
        "mrcnn_bbox_loss": 1.0,
        "mrcnn_mask_loss": 1.0,
    }
    USE_RPN_ROIS = True
    TRAIN_BN: Any = False
    GRADIENT_CLIP_NORM = 5.0

    def __init__(self) -> None:
        self.BATCH_SIZE = self.IMAGES_PER_GPU * self.GPU_COUNT
        self.IMAGE_SHAPE = np.array([self.IMAGE_MAX_DIM, self.IMAGE_MAX_DIM, self.IMAGE_CHANNEL_COUNT])
        self.IMAGE_META_SIZE = 12 + self.NUM_CLASSES

    def to_dict(self) -> dict[str, Any]:
        """Every setting by its name."""
        return {name: getattr(self, name) for name in sorted(dir(self)) if name.isupper()}

    def display(self) -> None:
        """Prints every setting."""
        for name, value in self.to_dict().items():
            print(f"{name:30} {value}")


def setting(config: Any, name: str) -> Any:
    """A value of a configuration, Matterport's default where it has none: mrcnn's versions differ in a few."""
    return getattr(config, name, getattr(Config, name))


def to_profile(config: Any) -> Profile:
    """The profile that a `Config` describes, its class or an object of it, whatever module it comes from.

    Raises:
        ConfigError: a setting that has no equivalent here; it is named.
    """

    def get(name: str) -> Any:
        return setting(config, name)

    backbone = get("BACKBONE")
    for name, wanted in (
        ("IMAGE_RESIZE_MODE", "square"),
        ("RPN_ANCHOR_STRIDE", 1),
        ("IMAGE_CHANNEL_COUNT", 3),
        ("USE_RPN_ROIS", True),
    ):
        if get(name) != wanted:
            raise ConfigError(f"{name} = {get(name)!r} is not supported, only {wanted!r}")
    if backbone not in IDENTITY_BLOCKS:
        raise ConfigError(f"BACKBONE = {backbone!r} is not supported, only {' and '.join(IDENTITY_BLOCKS)}")
    if tuple(get("MASK_SHAPE")) != (2 * get("MASK_POOL_SIZE"),) * 2:
        raise ConfigError(f"MASK_SHAPE = {get('MASK_SHAPE')} must be twice MASK_POOL_SIZE = {get('MASK_POOL_SIZE')}")
    side = int(get("IMAGE_MAX_DIM"))
    if side % 64:
        raise ConfigError(f"IMAGE_MAX_DIM = {side} must be a multiple of 64, such as {max(64, round(side / 64) * 64)}")
    try:
        return dataclasses.replace(
            PROFILES[f"matterport-{backbone}"],
            input_size=(side, side),
            pixel_mean=_three(get("MEAN_PIXEL")),
            letterbox=Rule("centred", min_side=int(get("IMAGE_MIN_DIM") or 0), min_scale=get("IMAGE_MIN_SCALE") or 0.0),
            strides=tuple(get("BACKBONE_STRIDES")),
            fpn_channels=get("TOP_DOWN_PYRAMID_SIZE"),
            anchor_sizes=tuple((float(scale),) for scale in get("RPN_ANCHOR_SCALES")),
            anchor_ratios=tuple(1 / ratio for ratio in get("RPN_ANCHOR_RATIOS")),  # width / height there
            anchor_deltas_std=_x_first(get("RPN_BBOX_STD_DEV")),
            box_deltas_std=_x_first(get("BBOX_STD_DEV")),
            box_pool=get("POOL_SIZE"),
            box_units=get("FPN_CLASSIF_FC_LAYERS_SIZE"),
            mask_pool=get("MASK_POOL_SIZE"),
            candidates=get("PRE_NMS_LIMIT"),
            proposals=get("POST_NMS_ROIS_INFERENCE"),
            proposal_nms_threshold=get("RPN_NMS_THRESHOLD"),
            nms_threshold=get("DETECTION_NMS_THRESHOLD"),
            score_threshold=get("DETECTION_MIN_CONFIDENCE") or 0.0,
            max_detections=get("DETECTION_MAX_INSTANCES"),
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _x_first(values: Any) -> tuple[float, ...]:
    y, x, height, width = (float(value) for value in values)
    return x, y, width, height
