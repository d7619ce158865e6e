"""Live instance segmentation from one self-describing ONNX file."""

from pumpseg.errors import ModelFileError, ProviderError, PumpsegError, SinkError, SourceError
from pumpseg.instances import CropMask, Instances
from pumpseg.letterbox import Letterbox, letterbox

__all__ = [
    "CropMask",
    "Instances",
    "Letterbox",
    "ModelFileError",
    "ProviderError",
    "PumpsegError",
    "SinkError",
    "SourceError",
    "letterbox",
]
