"""Errors that a user can act on: one line each, shown without a traceback by the commands."""

from __future__ import annotations

import importlib
from typing import Any

_MAX_SHOWN = 500


class PumpsegError(Exception):
    """Base of every error that pumpseg raises on bad input; the commands print it and exit with 2."""


class OptionError(PumpsegError, ValueError):
    """An option of the wrong kind, or out of its range."""


class ModelFileError(PumpsegError, ValueError):
    """The ONNX file is missing, damaged, not made by pumpseg, or of a newer format."""


class ProviderError(PumpsegError, RuntimeError):
    """An execution provider did not load as asked, or failed on a frame. advice: what to do, empty if unknown."""

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(f"{reason}: {advice}" if advice else reason)
        self.reason, self.advice = reason, advice


class SourceError(PumpsegError, ValueError):
    """A camera, file or folder that cannot be read as asked."""


class SinkError(PumpsegError, OSError):
    """An output that cannot be written as asked."""


class WriteError(SinkError):
    """Outputs that failed while they were written; the others are complete."""


class DatasetError(PumpsegError, ValueError):
    """A data set on disk that is missing, incomplete or contradicts itself."""


class MissingPackageError(PumpsegError, ImportError):
    """A package that is needed is not installed, or damaged; the message ends with the pip command."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its type where it has none; see `printable`."""
    return printable((str(error).strip() or type(error).__name__).splitlines()[0])


def printable(text: str) -> str:
    """Text from a file or a library for a message: control characters are escaped, the end of a long one is cut."""
    shown = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
    return shown if shown.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)


def require(module: str, *, extra: str) -> Any:
    """Import an optional package; extra: of pumpseg, that installs it.

    Raises MissingPackageError, naming the pip command, if the package cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackageError(
            f'{module} cannot be imported ({first_line(error)}): pip install "pumpseg[{extra}]"', name=module
        ) from None
