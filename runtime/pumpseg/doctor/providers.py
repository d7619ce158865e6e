"""Every execution provider: whether it loads and runs the shipped model, or why not."""

from __future__ import annotations

import platform
import time

from pumpseg import wheels
from pumpseg.doctor.finding import FAULT, NOTE, OK, Finding
from pumpseg.doctor.isolated import isolated
from pumpseg.errors import ProviderError, PumpsegError

# TensorRT would build an engine for minutes: only its library is loaded.
_NAMES = ("cpu", "cuda", "tensorrt", "openvino", "coreml", "directml")
_SYSTEMS = {"coreml": "Darwin", "directml": "Windows"}


def check_providers() -> list[Finding]:
    here = [name for name in _NAMES if _SYSTEMS.get(name, platform.system()) == platform.system()]
    return [finding for name in here for finding in isolated(name, f"{__name__}:try_provider", name)]


def try_provider(name: str) -> list[Finding]:
    """Loads a provider and runs a shipped model once. No finding where what is missing is reported elsewhere."""
    try:
        from pumpseg.inference import providers
        from pumpseg.inference.model_file import find_model

        ort = None if name == providers.OPENVINO else providers.import_onnxruntime()
    except ImportError:
        return []
    included = ort is None or providers.PROVIDERS[name].ort_name in ort.get_available_providers()
    start = time.perf_counter()
    try:
        if name == "tensorrt" and included:
            return [_tensorrt(ort)]
        providers.open_session(find_model("fast"), name)
    except ProviderError as error:
        # Of those in the wheel only the ones that are chosen by themselves must load.
        expected = included and name in providers.AUTO_ORDER
        return [_failed(name, error, wrong=expected)]
    except PumpsegError as error:
        return [Finding(name, FAULT, str(error))]
    return [Finding(name, OK, f"loads and runs a model in {time.perf_counter() - start:.1f} s")]


def _failed(name: str, error: ProviderError, *, wrong: bool) -> Finding:
    if wrong and name == "cuda" and not wheels.has_nvidia_driver():
        text = f"{error.reason}; {error.advice}; without a GPU, take the wheel for the CPU"
        return Finding(name, FAULT, text, wheels.install_command(wheels.CPU_WHEEL))
    return Finding(name, FAULT if wrong else NOTE, error.reason, error.advice)


def _tensorrt(ort: object) -> Finding:
    from pumpseg.inference import providers

    providers.preload_cuda(ort, tensorrt=True)
    reason = providers.load_failure(ort, providers.PROVIDERS["tensorrt"].library)
    if reason:
        return Finding("tensorrt", NOTE, f"does not load: {reason}", wheels.nvidia_advice(reason, tensorrt=True))
    return Finding("tensorrt", OK, "its libraries load")
