"""The figures that define one Mask R-CNN: every piece is built from a `Profile`."""

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Literal

from pumpseg.inference.letterbox import TOP_LEFT, Rule


@dataclass(frozen=True)
class Compat:
    """Which conventions the arithmetic between the networks follows; training, Keras and the exported graph read it."""

    anchor_offset: float  # of the first anchors' centres from the image's corner, in cells
    last_pixel: float  # 1: inside the model, boxes end in their last pixel, not after it
    class_agnostic: bool  # one box and one mask per proposal, not one per class (and the background)
    roi_corners: bool  # RoIs are sampled once per cell, corner to corner, as tf.image.crop_and_resize does
    rank_by_probability: bool  # proposals are ranked by probability, ties in float32 by anchor; else by logit
    joint_score: bool  # objectness x class probability; else the latter, 0 where background is likelier
    clip_to_content: bool  # boxes end at the letterboxed frame, not at the input's border
    mask_border: Literal["replicate", "fade"]  # how masks are pasted: `pumpseg.masks.paste.paste_crop`


EDGE_COMPAT = Compat(
    anchor_offset=0.5,
    last_pixel=0.0,
    class_agnostic=True,
    roi_corners=False,
    rank_by_probability=False,
    joint_score=True,
    clip_to_content=False,
    mask_border="replicate",
)
MATTERPORT_COMPAT = Compat(  # mrcnn 0.2
    anchor_offset=0.0,
    last_pixel=1.0,
    class_agnostic=False,
    roi_corners=True,
    rank_by_probability=True,
    joint_score=False,
    clip_to_content=True,
    mask_border="fade",
)


@dataclass(frozen=True)
class Profile:
    """Architecture and inference figures of a model. Lengths are input pixels.

    The trunk is fully convolutional: `input_size` is what training and export use unless another size
    is given, and must be a multiple of the largest stride.
    """

    name: str = "edge"
    compat: Compat = EDGE_COMPAT
    backbone: str = "efficientnet-lite0"
    input_size: tuple[int, int] = (384, 384)  # height, width
    pixel_mean: tuple[float, float, float] = (127.0, 127.0, 127.0)  # RGB
    pixel_scale: float = 1 / 128
    letterbox: Rule = TOP_LEFT
    fill: tuple[int, int, int] = (127, 127, 127)  # RGB around the letterboxed frame

    levels: tuple[str, ...] = ("p3", "p4", "p5")  # of the pyramid
    strides: tuple[int, ...] = (8, 16, 32)
    fpn_channels: int = 96
    rpn_channels: int = 96
    anchor_sizes: tuple[tuple[float, ...], ...] = ((12, 18, 28), (44, 68, 105), (161, 249, 384))  # per level
    anchor_ratios: tuple[float, ...] = (0.7, 1.0, 1.4)  # height / width

    anchor_deltas_std: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)  # of the RPN
    box_deltas_std: tuple[float, ...] = (0.1, 0.1, 0.2, 0.2)  # of the box head
    roi_levels: int = 3  # RoIs are read from this many levels, finest first
    roi_level_size: float = 192.0  # boxes of this side or larger are read from the last of them
    roi_sampling_ratio: int = 1
    box_pool: int = 7
    box_channels: int = 48  # between the pooled features and the dense layers
    box_units: int = 256
    box_dropout: float = 0.3  # in training
    mask_pool: int = 14
    mask_channels: int = 64
    mask_convs: int = 4
    mask_margin: float = (
        0.05  # the mask head sees this fraction more of a box on each side; boxes are tightened to its masks
    )

    candidates: int = 1000  # anchors kept before proposal NMS
    proposals: int = 300  # at most: piles of objects need many, most pictures few
    proposal_score_threshold: float = 0.02  # proposals below skip the box head
    proposal_nms_threshold: float = 0.7
    nms_rounds: int = 12  # of Keras' NMS: the longest chain of boxes that suppress each other
    nms_threshold: float = 0.5
    score_threshold: float = 0.02
    max_detections: int = 100

    @property
    def anchors_per_cell(self) -> int:
        return len(self.anchor_sizes[0]) * len(self.anchor_ratios)

    @property
    def mask_size(self) -> int:
        """Side M of the predicted masks."""
        return 2 * self.mask_pool

    def __post_init__(self) -> None:
        if any(side <= 0 or side % self.strides[-1] for side in self.input_size):
            height, width = self.input_size
            raise ValueError(f"input size {width}x{height}: sides must be multiples of {self.strides[-1]}")
        if not len(self.anchor_sizes) == len(self.levels) == len(self.strides):
            raise ValueError(
                f"{len(self.anchor_sizes)} anchor levels and {len(self.levels)} names for {len(self.strides)} strides"
            )
        if any(a <= 0 for a in itertools.chain(*self.anchor_sizes)):
            raise ValueError("anchor sizes must be positive")


EDGE = Profile()
MATTERPORT_RESNET101 = Profile(  # mrcnn/config.py of mrcnn 0.2
    name="matterport-resnet101",
    compat=MATTERPORT_COMPAT,
    backbone="resnet101",
    input_size=(1024, 1024),
    pixel_mean=(123.7, 116.8, 103.9),
    pixel_scale=1.0,
    letterbox=Rule("centred", min_side=800),
    fill=(0, 0, 0),
    levels=("p2", "p3", "p4", "p5", "p6"),
    strides=(4, 8, 16, 32, 64),
    fpn_channels=256,
    rpn_channels=512,
    anchor_sizes=((32,), (64,), (128,), (256,), (512,)),
    anchor_ratios=(2.0, 1.0, 0.5),
    anchor_deltas_std=(0.1, 0.1, 0.2, 0.2),
    roi_levels=4,
    # Matterport's 4 + round(log2(side / 224)), limited to 2..5: the last level begins half a level above 224.
    roi_level_size=224 * 2**0.5,
    roi_sampling_ratio=1,
    box_units=1024,
    mask_channels=256,
    candidates=6000,
    proposals=1000,
    proposal_score_threshold=0.0,
    nms_rounds=60,
    mask_margin=0.0,
    nms_threshold=0.3,
    score_threshold=0.7,
)
MATTERPORT_RESNET50 = dataclasses.replace(MATTERPORT_RESNET101, name="matterport-resnet50", backbone="resnet50")
PROFILES = {profile.name: profile for profile in (EDGE, MATTERPORT_RESNET50, MATTERPORT_RESNET101)}
