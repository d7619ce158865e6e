"""Errors that a user can act on: one line each, shown without a traceback by the commands."""


class PumpsegError(Exception):
    """Base of every error that pumpseg raises on bad input; the commands print it and exit with 2."""


class OptionError(PumpsegError, ValueError):
    """An option of the wrong kind or out of its range."""


class ModelFileError(PumpsegError, ValueError):
    """The ONNX file is missing, damaged, not made by pumpseg, or of a newer format."""


class ProviderError(PumpsegError, RuntimeError):
    """An execution provider that was asked for by name did not load."""


class SourceError(PumpsegError, ValueError):
    """A camera, file or folder that cannot be read as asked."""


class SinkError(PumpsegError, OSError):
    """An output that cannot be written as asked."""


class DatasetError(PumpsegError, ValueError):
    """A data set on disk that is missing, incomplete or contradicts itself."""
