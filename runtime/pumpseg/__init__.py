"""Live instance segmentation from one self-describing ONNX file."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pumpseg.draw import draw
from pumpseg.errors import (
    DatasetError,
    ModelFileError,
    OptionError,
    ProviderError,
    PumpsegError,
    SinkError,
    SourceError,
)
from pumpseg.inference.model_file import ModelInfo
from pumpseg.instances import Instances
from pumpseg.masks.paste import CropMask
from pumpseg.segmenter import Segmenter
from pumpseg.timings import Timings
from pumpseg.zones import Line, Zone, ZoneCounter, ZoneCounts

if TYPE_CHECKING:
    from pumpseg.video.result import Result
    from pumpseg.video.sources.open import open_source
    from pumpseg.video.tracking import Tracker

    __version__: str

__all__ = [
    "CropMask",
    "DatasetError",
    "Instances",
    "Line",
    "ModelFileError",
    "ModelInfo",
    "OptionError",
    "ProviderError",
    "PumpsegError",
    "Result",
    "Segmenter",
    "SinkError",
    "SourceError",
    "Timings",
    "Tracker",
    "Zone",
    "ZoneCounter",
    "ZoneCounts",
    "draw",
    "open_source",
]

_ON_DEMAND = {
    "Result": "pumpseg.video.result",
    "Tracker": "pumpseg.video.tracking",
    "open_source": "pumpseg.video.sources.open",
}


def __getattr__(name: str) -> Any:
    """Import on demand what would double the time that importing pumpseg takes."""
    if name == "__version__":
        return import_module("importlib.metadata").version("pumpseg")
    if name in _ON_DEMAND:
        return getattr(import_module(_ON_DEMAND[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
