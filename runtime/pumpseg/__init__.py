"""Live instance segmentation from one self-describing ONNX file."""

from pumpseg.draw import draw
from pumpseg.errors import ModelFileError, OptionError, ProviderError, PumpsegError, SinkError, SourceError
from pumpseg.inference.letterbox import Letterbox, letterbox
from pumpseg.inference.model_file import ModelInfo
from pumpseg.instances import Instances
from pumpseg.masks.paste import CropMask
from pumpseg.segmenter import Segmenter
from pumpseg.timings import Timings

__all__ = [
    "CropMask",
    "Instances",
    "Letterbox",
    "ModelFileError",
    "ModelInfo",
    "OptionError",
    "ProviderError",
    "PumpsegError",
    "Segmenter",
    "SinkError",
    "SourceError",
    "Timings",
    "draw",
    "letterbox",
]
