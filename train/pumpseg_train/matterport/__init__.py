"""For those who come from Matterport's mrcnn: its weight files, its `Dataset` and `Config` classes, its training.

    from pumpseg_train.matterport import CLASS_LAYERS, Config, Dataset, MaskRCNN
    from pumpseg_train.matterport import modellib, utils, visualize  # as mrcnn's modules of these names

docs/matterport.md shows how.
"""

from pumpseg_train.matterport.config import Config
from pumpseg_train.matterport.dataset import Dataset
from pumpseg_train.matterport.mask_rcnn import MaskRCNN
from pumpseg_train.matterport.weights_file import CLASS_LAYERS

__all__ = ["CLASS_LAYERS", "Config", "Dataset", "MaskRCNN"]
