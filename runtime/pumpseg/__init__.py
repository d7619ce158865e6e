"""Live instance segmentation from one self-describing ONNX file."""

TYPE_CHECKING = False  # typing.TYPE_CHECKING, for type checkers, without the time that importing typing takes
if TYPE_CHECKING:
    from typing import Any

    from pumpseg.drawing import draw
    from pumpseg.errors import (
        DatasetError,
        MissingPackageError,
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
    from pumpseg.video.result import Result
    from pumpseg.video.sources.open import open_source
    from pumpseg.video.tracking import Tracker
    from pumpseg.zones import Line, Zone, ZoneCounter, ZoneCounts

    __version__: str

__all__ = [
    "CropMask",
    "DatasetError",
    "Instances",
    "Line",
    "MissingPackageError",
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

_MODULES = {
    "pumpseg.drawing": ("draw",),
    "pumpseg.errors": (
        "DatasetError",
        "MissingPackageError",
        "ModelFileError",
        "OptionError",
        "ProviderError",
        "PumpsegError",
        "SinkError",
        "SourceError",
    ),
    "pumpseg.inference.model_file": ("ModelInfo",),
    "pumpseg.instances": ("Instances",),
    "pumpseg.masks.paste": ("CropMask",),
    "pumpseg.segmenter": ("Segmenter",),
    "pumpseg.timings": ("Timings",),
    "pumpseg.video.result": ("Result",),
    "pumpseg.video.sources.open": ("open_source",),
    "pumpseg.video.tracking": ("Tracker",),
    "pumpseg.zones": ("Line", "Zone", "ZoneCounter", "ZoneCounts"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> "Any":
    """Import on demand: every command imports this package first, and `pumpseg --version` needs nothing of it."""
    from importlib import import_module

    if name == "__version__":
        return import_module("importlib.metadata").version("pumpseg")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
