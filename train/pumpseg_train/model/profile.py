"""The figures that define one Mask R-CNN: every piece is built from a `Profile`."""

import itertools
from dataclasses import dataclass


@dataclass(frozen=True)
class Profile:
    """Architecture and inference figures of a model. Lengths are input pixels.

    The trunk is fully convolutional: `input_size` is what training and export use unless told
    otherwise, and must be a multiple of the largest stride.
    """

    name: str = "edge"
    input_size: tuple[int, int] = (384, 384)  # height, width
    pixel_mean: float = 127.0
    pixel_scale: float = 1 / 128

    strides: tuple[int, ...] = (8, 16, 32)  # P3 P4 P5
    fpn_channels: int = 96
    anchor_sizes: tuple[tuple[float, ...], ...] = ((12, 18, 28), (44, 68, 105), (161, 249, 384))  # per level
    anchor_ratios: tuple[float, ...] = (0.7, 1.0, 1.4)  # height / width

    box_deltas_std: tuple[float, ...] = (0.1, 0.1, 0.2, 0.2)  # of the box head
    roi_level_size: float = 192.0  # a box of this side or larger is read from the last level
    roi_sampling_ratio: int = 2
    box_pool: int = 7
    box_units: int = 256
    mask_pool: int = 14
    mask_channels: int = 64
    mask_convs: int = 4

    candidates: int = 1000  # anchors kept before proposal NMS
    proposals: int = 300  # at most: heaps of objects need many, and most pictures few
    proposal_score_threshold: float = 0.02  # what is less likely an object costs no time in the box head
    proposal_nms_threshold: float = 0.7
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
        if any(side % self.strides[-1] for side in self.input_size):
            raise ValueError(f"input size {self.input_size} is not a multiple of {self.strides[-1]}")
        if len(self.anchor_sizes) != len(self.strides):
            raise ValueError(f"{len(self.anchor_sizes)} anchor levels for {len(self.strides)} strides")
        if any(a <= 0 for a in itertools.chain(*self.anchor_sizes)):
            raise ValueError("anchor sizes must be positive")


EDGE = Profile()
PROFILES = {EDGE.name: EDGE}
