"""Open an ONNX Runtime session on an execution provider, and know for certain which one it really got.

ONNX Runtime falls back to the CPU in silence when a provider that was compiled in cannot load
(microsoft/onnxruntime#23372), so what counts here is `session.get_providers()` after creation.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pumpseg.checks import check_count
from pumpseg.errors import ModelFileError, ProviderError, first_line, require
from pumpseg.inference.bound_session import BoundSession
from pumpseg.inference.cpu import int8_dot_product, physical_cores
from pumpseg.inference.model_file import choose_model
from pumpseg.inference.openvino_session import OpenVinoSession

if TYPE_CHECKING:
    import onnxruntime

log = logging.getLogger("pumpseg")

# Since 1.29 ONNX Runtime reports its use to its makers, also on Linux (microsoft/onnxruntime#27379), unless told
# otherwise before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

AUTO = "auto"
MAX_THREADS = 1024  # ONNX Runtime starts whatever it is asked for, and no machine has more cores
OPENVINO = "openvino"
_ROIS_AT_A_TIME = 32
_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"


class Session(Protocol):
    """What is used of a session, whichever library runs it."""

    def run(self, names: Any, model_inputs: Any) -> Any: ...

    def get_inputs(self) -> Any: ...

    def get_overridable_initializers(self) -> Any: ...

    def get_outputs(self) -> Any: ...

    def get_modelmeta(self) -> Any: ...


@dataclass(frozen=True)
class Provider:
    """An execution provider: its name in ONNX Runtime, the wheel that has it, and the options we give it.

    fallback: providers for the nodes that it cannot run, in order; the CPU is always the last of them.
    library: its own file, asked for the reason when it does not load. notice: told before it is tried.
    device: where OrtValue puts the input, for those with memory of their own. rois_multiple: how many RoIs the heads
    run on at a time, for those that prepare their kernels anew for every number of them.
    """

    name: str
    ort_name: str
    install: str
    options: Callable[[], dict[str, str]] = dict
    fallback: tuple[str, ...] = ()
    library: str | None = None
    device: str | None = None
    rois_multiple: int = 1
    session_options: dict[str, Any] = field(default_factory=dict)
    notice: str = ""


def _cuda_options() -> dict[str, str]:
    # The heads may get a number of RoIs not seen before: an exhaustive search would stall for a quarter of a second.
    return {"cudnn_conv_algo_search": "HEURISTIC"}


def _tensorrt_options() -> dict[str, str]:
    # Building an engine takes minutes; the cache makes that happen once for each model and GPU.
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
        Provider("cpu", _CPU, 'pip install "pumpseg[cpu]"'),
        Provider(
            "cuda",
            _CUDA,
            'pip uninstall onnxruntime; pip install "pumpseg[gpu]"',
            _cuda_options,
            library="libonnxruntime_providers_cuda.so",
            device="cuda",
            rois_multiple=_ROIS_AT_A_TIME,
        ),
        Provider(
            "tensorrt",
            "TensorrtExecutionProvider",
            'pip uninstall onnxruntime; pip install "pumpseg[gpu]" tensorrt',
            _tensorrt_options,
            fallback=(_CUDA,),
            library="libonnxruntime_providers_tensorrt.so",
            device="cuda",
            rois_multiple=_ROIS_AT_A_TIME,
            notice="TensorRT builds an engine for a new model, which takes minutes once",
        ),
        Provider(OPENVINO, "OpenVINO", 'pip install "pumpseg[openvino]"'),
        Provider(
            "coreml",
            "CoreMLExecutionProvider",
            'pip install "pumpseg[cpu]" on macOS',
            lambda: {"ModelFormat": "MLProgram"},
        ),
        Provider(
            "directml",
            "DmlExecutionProvider",
            "pip uninstall onnxruntime; pip install onnxruntime-directml on Windows",
            session_options={"enable_mem_pattern": False},
            rois_multiple=_ROIS_AT_A_TIME,
        ),
    )
}
# Left out are TensorRT, which builds an engine for minutes at the first start, and OpenVINO, which starts at half the
# speed and takes a third more memory: whoever gains from them in the long run names them.
AUTO_ORDER = ("cuda", "directml", "coreml", "cpu")


def provider_names() -> tuple[str, ...]:
    """Every name that a user may give as provider."""
    return (AUTO, *PROVIDERS)


def open_session(
    model: str | Path | None,
    provider: str = AUTO,
    *,
    threads: int | None = None,
    allow_spinning: bool | None = None,
    profile: Path | None = None,
) -> tuple[Session, str]:
    """A session of an ONNX file and the name of the provider that runs it.

    model: a path, or the name of a shipped model, whose file `choose_model` takes for the provider.
    provider: "auto" takes the best one that loads and logs which and why; any other name is binding.
    threads: of one inference, the physical cores available to this process by default. allow_spinning: whether idle
    threads keep polling for work; None polls during an inference only; OpenVINO's never do for long.
    profile: start of the name of ONNX Runtime's profile, written by end_profiling(); OpenVINO has node_times().

    Raises OptionError for threads below 1 or above MAX_THREADS, ProviderError if the provider named is unknown or
    does not load, ModelFileError if the file is damaged, and PumpsegError if ONNX Runtime is not installed.
    """
    if provider not in provider_names():
        raise ProviderError(f"unknown provider {provider!r}; there are {', '.join(provider_names())}")
    if threads is not None:
        check_count("threads", threads, MAX_THREADS)
    if provider == OPENVINO:
        return _open_openvino(choose_model(model, provider)[0], threads, profile), provider
    ort = import_onnxruntime()
    if provider != AUTO:
        path, _ = choose_model(model, provider)
        return _open_on(ort, path, PROVIDERS[provider], threads, allow_spinning, profile), provider

    available = ort.get_available_providers()
    reasons = []
    for name in AUTO_ORDER:
        candidate = PROVIDERS[name]
        if candidate.ort_name not in available:
            continue
        try:
            session = _open_on(ort, choose_model(model, name)[0], candidate, threads, allow_spinning, profile)
        except ProviderError as error:
            reasons.append(str(error))
            continue
        others = [n for n in AUTO_ORDER if n != name and PROVIDERS[n].ort_name in available]
        why = "; ".join(reasons) or (
            f"the best of {', '.join([name, *others])}" if others else f"the only one in this {_wheel(ort)}"
        )
        log.info("provider %s: %s", name, why)
        return session, name
    raise ProviderError(f"no execution provider loads: {'; '.join(reasons) or ', '.join(available)}")


def _open_openvino(path: Path, threads: int | None, profile: Path | None) -> OpenVinoSession:
    session = OpenVinoSession(path, threads=threads, profile=profile is not None)
    _try_out(session, PROVIDERS[OPENVINO])
    return session


def import_onnxruntime() -> Any:
    """The onnxruntime module. Raises PumpsegError naming the extras if it is not installed."""
    return require("onnxruntime", extra="cpu", hint=', or "pumpseg[gpu]" for an NVIDIA GPU')


def _open_on(
    ort: Any, path: Path, provider: Provider, threads: int | None, allow_spinning: bool | None, profile: Path | None
) -> Session:
    available = ort.get_available_providers()
    if provider.ort_name not in available:
        raise ProviderError(
            f"provider {provider.name} is not in this {_wheel(ort)}, which has "
            f"{', '.join(_short_names(available))}: {provider.install}"
        )
    chain = [(provider.ort_name, provider.options())]
    chain += [(name, {}) for name in (*provider.fallback, _CPU) if name in available and name != provider.ort_name]
    options = _session_options(ort, provider, threads, allow_spinning)
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    if provider.notice:
        log.info(provider.notice)
    with contextlib.nullcontext() if provider.ort_name == _CPU else _quiet(ort):
        if provider.ort_name == _CUDA or _CUDA in provider.fallback:
            _preload_cuda(ort)
        try:
            # Without enable_fallback=0 onnxruntime prints a banner and retries on the CPU by itself.
            session: Session = ort.InferenceSession(str(path), options, providers=chain, enable_fallback=0)
        except Exception as error:
            if provider.ort_name == _CPU or type(error).__name__ in ("InvalidProtobuf", "InvalidGraph"):
                raise ModelFileError(f"{path} is not an ONNX file that runs here: {first_line(error)}") from None
            raise ProviderError(f"provider {provider.name} did not load: {first_line(error)}") from None
    got = session.get_providers()  # type: ignore[attr-defined]
    if provider.ort_name not in got:
        reason = _load_failure(ort, provider.library)
        raise ProviderError(
            f"provider {provider.name} did not load{': ' + reason if reason else ''}; "
            f"{', '.join(_short_names(got))} would run instead (this {_wheel(ort)} has "
            f"{', '.join(_short_names(available))}): {provider.install}"
        )
    if provider.device is not None:
        session = BoundSession(ort, session, provider.device)
    if provider.ort_name != _CPU:
        _try_out(session, provider)
    return session


def _try_out(session: Session, provider: Provider) -> None:
    """Run a black image: a provider that loads may fail on its first kernel, and its first run is slow."""
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(uint8)" or not all(type(n) is int for n in inputs[0].shape):
        # Not a model of ours; that is for the check of the contract to say.
        return
    try:
        session.run(None, {inputs[0].name: np.zeros(inputs[0].shape, np.uint8)})
    except Exception as error:
        raise ProviderError(f"provider {provider.name} loads but cannot run the model: {first_line(error)}") from None


def _session_options(
    ort: Any, provider: Provider, threads: int | None, allow_spinning: bool | None
) -> onnxruntime.SessionOptions:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = physical_cores() if threads is None else threads
    # The graph is a chain: a second operator never waits for a thread of its own.
    options.inter_op_num_threads = 1
    # Failures come as exceptions; what is left is noise such as notes on Memcpy nodes.
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0" if allow_spinning is False else "1")
    options.add_session_config_entry("session.force_spinning_stop", "1" if allow_spinning is None else "0")
    # Without dot-product instructions uint8 times int8 overflows 16 bits; this has the weights made uint8, which takes
    # nearly twice the time where there are such instructions.
    options.add_session_config_entry("session.x64quantprecision", "0" if int8_dot_product() else "1")
    for name, value in provider.session_options.items():
        setattr(options, name, value)
    return options


@contextlib.contextmanager
def _quiet(ort: Any) -> Iterator[None]:
    """Silence onnxruntime's default logger while a provider's library is tried; 2 is its own default."""
    ort.set_default_logger_severity(4)
    try:
        yield
    finally:
        ort.set_default_logger_severity(2)


def _preload_cuda(ort: Any) -> None:
    """Load CUDA and cuDNN from NVIDIA's wheels. What it fails to find shows in the check that follows."""
    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
            ort.preload_dlls()


def _load_failure(ort: Any, library: str | None) -> str:
    """Why a provider's library does not load, such as a CUDA library that is missing; empty if unknown."""
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
    """Our names for those of onnxruntime; those that we do not offer are left out."""
    return [provider.name for provider in PROVIDERS.values() if provider.ort_name in ort_names]
