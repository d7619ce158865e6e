"""Open a session on an execution provider, and make sure that it is the one that was asked for.

ONNX Runtime silently falls back to the CPU when a provider that was compiled in cannot load
(microsoft/onnxruntime#23372), so what counts is `session.get_providers()` after creation.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import logging
import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pumpseg import wheels
from pumpseg.checks import check_count
from pumpseg.errors import MissingPackageError, ModelFileError, ProviderError, first_line
from pumpseg.inference.bound_session import BoundSession, FixedSession, has_fixed_outputs
from pumpseg.inference.cpu import int8_dot_product, physical_cores
from pumpseg.inference.model_file import Tensor
from pumpseg.inference.onnx_file import check_onnx_file
from pumpseg.inference.openvino_session import OpenVinoSession

if TYPE_CHECKING:
    import onnxruntime

log = logging.getLogger("pumpseg")

# ONNX Runtime begins some messages with where in its source it was.
_LOCATION = re.compile(r"\S+\.(?:cc|h):\d+ .*?\) (?=[A-Z])")
T = TypeVar("T")

# Since 1.29 ONNX Runtime sends telemetry, on Linux too (microsoft/onnxruntime#27379), unless this is set before it is
# imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

AUTO = "auto"
MAX_THREADS = 1024  # ONNX Runtime would start any number, and no machine has more cores
OPENVINO = "openvino"
_ROIS_AT_A_TIME = 32
_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"


class Session(Protocol):
    """What we use of a session, whichever library runs it."""

    def run(self, names: Sequence[str] | None, model_inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]: ...

    def get_inputs(self) -> Sequence[Tensor]: ...

    def get_overridable_initializers(self) -> Sequence[Tensor]: ...

    def get_outputs(self) -> Sequence[Tensor]: ...

    def get_modelmeta(self) -> Any: ...


@dataclass(frozen=True)
class Provider:
    """An execution provider: its name in ONNX Runtime, the wheel that has it, and the options we give it.

    system: the only one that has it, as platform.system() names it.
    fallback: providers for the nodes that it cannot run, in order; the CPU is always the last.
    library: its shared library, which is loaded to learn why the provider does not load. notice: logged before the
    session opens. device: where OrtValue puts the input, for providers with memory of their own.
    fixed_options: added for a graph with fixed shapes, which then runs with fixed buffers.
    rois_multiple: the heads run on a multiple of so many RoIs, for providers that prepare new kernels for each number.
    """

    name: str
    ort_name: str
    wheel: str
    options: Callable[[], dict[str, str]] = dict
    fallback: tuple[str, ...] = ()
    library: str | None = None
    device: str | None = None
    fixed_options: Mapping[str, str] = field(default_factory=dict)
    rois_multiple: int = 1
    session_options: dict[str, Any] = field(default_factory=dict)
    notice: str = ""
    system: str = ""


def _cuda_options() -> dict[str, str]:
    # For each new number of RoIs an exhaustive search would stall for a quarter of a second.
    return {"cudnn_conv_algo_search": "HEURISTIC"}


def _tensorrt_options() -> dict[str, str]:
    # Building an engine takes minutes; with the cache it happens once for each model and GPU.
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pumpseg" / "tensorrt"
    with contextlib.suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
    return {
        "trt_engine_cache_enable": "1",
        "trt_timing_cache_enable": "1",
        "trt_engine_cache_path": str(cache),
        "trt_timing_cache_path": str(cache),
    }


PROVIDERS = {
    provider.name: provider
    for provider in (
        Provider("cpu", _CPU, wheels.CPU_WHEEL),
        Provider(
            "cuda",
            _CUDA,
            wheels.GPU_WHEEL,
            _cuda_options,
            library="libonnxruntime_providers_cuda.so",
            device="cuda",
            fixed_options={"enable_cuda_graph": "1"},
            rois_multiple=_ROIS_AT_A_TIME,
        ),
        Provider(
            "tensorrt",
            "TensorrtExecutionProvider",
            wheels.GPU_WHEEL,
            _tensorrt_options,
            fallback=(_CUDA,),
            library="libonnxruntime_providers_tensorrt.so",
            device="cuda",
            rois_multiple=_ROIS_AT_A_TIME,
            notice="TensorRT builds an engine for a new model, which takes minutes once",
        ),
        Provider(OPENVINO, "OpenVINO", "openvino"),
        Provider(
            "coreml",
            "CoreMLExecutionProvider",
            wheels.CPU_WHEEL,
            lambda: {"ModelFormat": "MLProgram"},
            system="Darwin",
        ),
        Provider(
            "directml",
            "DmlExecutionProvider",
            "onnxruntime-directml",
            session_options={"enable_mem_pattern": False},
            rois_multiple=_ROIS_AT_A_TIME,
            system="Windows",
        ),
    )
}
# Not tried: TensorRT builds an engine for minutes at the first start, and OpenVINO starts half as fast and takes a
# third more memory. Users who gain from them in the long run name them.
AUTO_ORDER = ("cuda", "directml", "coreml", "cpu")


def provider_names() -> tuple[str, ...]:
    """Every name that a user may give as provider."""
    return (AUTO, *PROVIDERS)


def first_that_loads(attempt: Callable[[str], T]) -> T:
    """What `attempt` returns for the best provider, by name, that does not raise ProviderError; logs which and why.

    Raises ProviderError if none loads, and MissingPackageError if ONNX Runtime is not installed.
    """
    ort = import_onnxruntime()
    available = ort.get_available_providers()
    names = [name for name in AUTO_ORDER if PROVIDERS[name].ort_name in available]
    reasons = []
    for name in names:
        try:
            result = attempt(name)
        except ProviderError as error:
            reasons.append(str(error))
            continue
        others = [other for other in names if other != name]
        best = f"the best of {', '.join([name, *others])}" if others else f"the only one in this {_wheel(ort)}"
        log.info("provider %s: %s", name, "; ".join(reasons) or best)
        return result
    raise ProviderError(f"no execution provider loads: {'; '.join(reasons) or ', '.join(available)}")


def open_session(
    path: Path,
    provider: str,
    *,
    threads: int | None = None,
    allow_spinning: bool | None = None,
    profile: Path | None = None,
) -> Session:
    """A session of an ONNX file on a provider by name, which is known to run it.

    threads: of one inference, the physical cores available to this process by default. allow_spinning: whether idle
    threads keep polling for work; None polls during an inference only; OpenVINO's never do for long.
    profile: start of the name of ONNX Runtime's profile, written by end_profiling(); OpenVINO has node_times().

    Raises OptionError for threads below 1 or above MAX_THREADS, ProviderError if the provider is unknown or does not
    load, ModelFileError if the file is damaged, and MissingPackageError if ONNX Runtime is not installed.
    """
    if provider not in PROVIDERS:
        raise ProviderError(f"unknown provider {provider!r}; there are {', '.join(provider_names())}")
    if threads is not None:
        check_count("threads", threads, MAX_THREADS)
    check_onnx_file(path)
    chosen = PROVIDERS[provider]
    if provider == OPENVINO:
        session: Session = OpenVinoSession(path, threads=threads, profile=profile is not None)
    else:
        session = _open_on(import_onnxruntime(), path, chosen, threads, allow_spinning, profile)
    if provider != "cpu":
        _try_out(session, chosen)
    # A profile does not list what runs inside a captured graph.
    if chosen.fixed_options and profile is None and has_fixed_outputs(session):
        return _fixed(session, path, chosen, threads, allow_spinning)
    return session


def _fixed(
    session: Session, path: Path, provider: Provider, threads: int | None, allow_spinning: bool | None
) -> Session:
    """A session with the provider's options for fixed shapes; the one given if it does not run."""
    try:
        fixed = _open_on(import_onnxruntime(), path, provider, threads, allow_spinning, None, fixed=True)
        _try_out(fixed, provider)
    except ProviderError as error:
        options = ", ".join(provider.fixed_options)
        log.warning("%s runs on %s without %s: %s", path.name, provider.name, options, error.reason)
        return session
    log.info("%s has fixed shapes: it runs on %s with %s", path.name, provider.name, ", ".join(provider.fixed_options))
    return fixed


def import_onnxruntime() -> Any:
    """The onnxruntime module. Raises MissingPackageError with the pip command if it is missing or damaged."""
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise MissingPackageError(
            f"onnxruntime cannot be imported ({first_line(error)}): {wheels.repair_command()}", name="onnxruntime"
        ) from None
    if damage := wheels.damage(ort):
        raise MissingPackageError(f"{damage}: {wheels.repair_command()}", name="onnxruntime")
    return ort


def _open_on(
    ort: Any,
    path: Path,
    provider: Provider,
    threads: int | None,
    allow_spinning: bool | None,
    profile: Path | None,
    *,
    fixed: bool = False,
) -> Session:
    available = ort.get_available_providers()
    if provider.ort_name not in available:
        raise _not_included(ort, provider, available)
    chain = [(provider.ort_name, provider.options() | (dict(provider.fixed_options) if fixed else {}))]
    chain += [(name, {}) for name in (*provider.fallback, _CPU) if name in available and name != provider.ort_name]
    options = session_options(ort, provider, threads, allow_spinning)
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    if provider.notice:
        log.info(provider.notice)
    with contextlib.nullcontext() if provider.ort_name == _CPU else _quiet(ort):
        if provider.ort_name == _CUDA or _CUDA in provider.fallback:
            preload_cuda(ort, tensorrt=provider.name == "tensorrt")
        try:
            # Without enable_fallback=0 onnxruntime prints a banner and retries on the CPU by itself.
            session: Session = ort.InferenceSession(str(path), options, providers=chain, enable_fallback=0)
        except Exception as error:
            if provider.ort_name == _CPU or type(error).__name__ in ("InvalidProtobuf", "InvalidGraph"):
                raise ModelFileError(f"{path} is not an ONNX file that runs here: {first_line(error)}") from None
            reason = _LOCATION.sub("", first_line(error)).rstrip(".")
            raise ProviderError(f"provider {provider.name} did not load: {reason}", _advice(provider, reason)) from None
    got = session.get_providers()  # type: ignore[attr-defined]
    if provider.ort_name not in got:
        reason = load_failure(ort, provider.library)
        raise ProviderError(
            f"provider {provider.name} did not load{': ' + reason if reason else ''}; "
            f"{', '.join(_short_names(got))} would run instead (this {_wheel(ort)} has "
            f"{', '.join(_short_names(available))})",
            _advice(provider, reason),
        )
    if provider.device is None:
        return session
    return (FixedSession if fixed else BoundSession)(ort, session, provider.device)


def _not_included(ort: Any, provider: Provider, available: list[str]) -> ProviderError:
    if provider.system and platform.system() != provider.system:
        system = "macOS" if provider.system == "Darwin" else provider.system
        return ProviderError(f"provider {provider.name} exists on {system} only", "choose another one")
    doubled = wheels.doubled()
    return ProviderError(
        f"provider {provider.name} is not in this {_wheel(ort)}, which has {', '.join(_short_names(available))}"
        f"{'; ' + doubled if doubled else ''}",
        wheels.install_command(provider.wheel),
    )


def _advice(provider: Provider, reason: str) -> str:
    """What to do about a provider that is in the installed wheel but does not load; empty if unknown."""
    return wheels.nvidia_advice(reason, tensorrt=provider.name == "tensorrt") if provider.device == "cuda" else ""


def _try_out(session: Session, provider: Provider) -> None:
    """Run a black image: a provider that loads may fail on its first kernel, and its first run is slow."""
    inputs = session.get_inputs()
    shape = [side for side in inputs[0].shape if isinstance(side, int)] if inputs else []
    if len(inputs) != 1 or inputs[0].type != "tensor(uint8)" or len(shape) < len(inputs[0].shape):
        # Not a model of ours; check_tensors reports that.
        return
    try:
        session.run(None, {inputs[0].name: np.zeros(shape, np.uint8)})
    except Exception as error:
        raise ProviderError(f"provider {provider.name} loads but cannot run the model: {first_line(error)}") from None


def session_options(
    ort: Any, provider: Provider, threads: int | None, allow_spinning: bool | None
) -> onnxruntime.SessionOptions:
    """The options of a session, as `open_session` describes them; ort: the onnxruntime module."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = physical_cores() if threads is None else threads
    # Whatever its name, a file is read as what was checked.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # The graph is a chain: there is never a second operator to run at the same time.
    options.inter_op_num_threads = 1
    # Failures are raised; the rest is noise, such as notes on Memcpy nodes.
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0" if allow_spinning is False else "1")
    options.add_session_config_entry("session.force_spinning_stop", "1" if allow_spinning is None else "0")
    # Without dot-product instructions uint8 times int8 overflows 16 bits. This makes the weights uint8, which nearly
    # doubles the time where there are such instructions.
    options.add_session_config_entry("session.x64quantprecision", "0" if int8_dot_product() else "1")
    for name, value in provider.session_options.items():
        setattr(options, name, value)
    return options


@contextlib.contextmanager
def _quiet(ort: Any) -> Iterator[None]:
    """Silence onnxruntime's default logger while a provider's library loads; 2 is its default level."""
    ort.set_default_logger_severity(4)
    try:
        yield
    finally:
        ort.set_default_logger_severity(2)


def preload_cuda(ort: Any, *, tensorrt: bool) -> None:
    """Load CUDA, cuDNN and TensorRT from NVIDIA's wheels. The check that follows shows what is missing."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
        if hasattr(ort, "preload_dlls"):
            ort.preload_dlls()
        if tensorrt:
            # Its package loads the libraries, which the loader would not look for there.
            importlib.import_module("tensorrt")


def load_failure(ort: Any, library: str | None) -> str:
    """Why a provider's library does not load, such as a missing CUDA library; empty if unknown."""
    if library is None or platform.system() != "Linux":
        return ""
    try:
        ctypes.CDLL(str(Path(ort.__file__).parent / "capi" / library))
    except OSError as error:
        return first_line(error)
    return ""


def _wheel(ort: Any) -> str:
    return f"{getattr(ort, 'package_name', 'onnxruntime')} {ort.__version__}"


def _short_names(ort_names: list[str]) -> list[str]:
    """Our names for onnxruntime's, without those that we do not offer."""
    return [provider.name for provider in PROVIDERS.values() if provider.ort_name in ort_names]
