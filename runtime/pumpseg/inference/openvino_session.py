"""OpenVINO with the interface of an ONNX Runtime session, as far as we use it.

This is the `openvino` package, not the `onnxruntime-openvino` wheel, which replaces onnxruntime, so that no environment
can have both, and lags behind its releases.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pumpseg.errors import ModelFileError, ProviderError, first_line, printable
from pumpseg.inference.cpu import physical_cores
from pumpseg.inference.model_file import SCORE_THRESHOLD, Tensor

# Names of element types in OpenVINO and in ONNX Runtime; model files of ours have no others.
_TYPES = {"u8": "tensor(uint8)", "f32": "tensor(float)", "i64": "tensor(int64)"}


class OpenVinoSession:
    """An ONNX file compiled by OpenVINO for the CPU, with the methods of `onnxruntime.InferenceSession` that we use.

    threads: of one inference, the physical cores available to this process by default. profile: keep the times of
    nodes for `node_times`. Several threads may share it; inferences then take turns.

    Raises ModelFileError if OpenVINO cannot read the file and ProviderError if it is not installed or cannot
    compile it.
    """

    def __init__(self, path: Path, *, threads: int | None = None, profile: bool = False) -> None:
        try:
            import openvino
            import openvino.frontend
        except ImportError as error:
            reason = f"openvino cannot be imported ({first_line(error)})"
            raise ProviderError(reason, 'pip install "pumpseg[openvino]"') from None
        try:
            # Not core.read_model: by its name or content that takes a file for another format than what was checked.
            reader = openvino.frontend.FrontEndManager().load_by_framework("onnx")
            model = reader.convert(reader.load(str(path)))
            # The ONNX reader keeps metadata_props under "framework" (openvinotoolkit/openvino#13712), in a map without
            # get.
            rt_info = model.get_rt_info()
            metadata = rt_info["framework"] if "framework" in rt_info else {}  # noqa: SIM401
            self._metadata = {key: str(value.value) for key, value in metadata.items()}
            self._inputs = [_tensor(port) for port in model.inputs]
            self._settings = _free_settings(openvino, model)
            self._outputs = [_tensor(port) for port in model.outputs]
        except Exception as error:  # its own kinds, and text of the file that is not UTF-8
            raise ModelFileError(f"{path} is not an ONNX file that runs here: {_last_line(error)}") from None
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            # OpenVINO's default on CPUs with bfloat16 is bfloat16, which changes masks visibly.
            "INFERENCE_PRECISION_HINT": "f32",
            # Pinned threads of two programs, or of a program and its video decoder, would share a core.
            "ENABLE_CPU_PINNING": False,
            "PERF_COUNT": profile,
        }
        count = physical_cores() if threads is None else threads
        if count:
            options["INFERENCE_NUM_THREADS"] = count
        try:
            self._compiled = compile_for_cpu(model, options)
        except Exception as error:
            raise ProviderError(f"provider openvino cannot compile {path}: {_last_line(error)}") from None
        self._per_thread = threading.local()

    def run(self, names: Sequence[str] | None, model_inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The named outputs, or all, as new arrays."""
        results = self._request().infer(self._settings | dict(model_inputs), share_inputs=True)
        return [results[name] for name in names or [output.name for output in self._outputs]]

    def get_inputs(self) -> list[Tensor]:
        return self._inputs

    def get_overridable_initializers(self) -> list[Tensor]:
        return [Tensor(name, "tensor(float)", value.shape) for name, value in self._settings.items()]

    def get_outputs(self) -> list[Tensor]:
        return self._outputs

    def get_modelmeta(self) -> SimpleNamespace:
        return SimpleNamespace(custom_metadata_map=self._metadata)

    def node_times(self) -> list[tuple[str, str, float]]:
        """Name, type and seconds of every node in this thread's last inference; needs profile=True."""
        return [
            (node.node_name, node.node_type, node.real_time.total_seconds())
            for node in self._request().profiling_info
            if "NOT_RUN" not in str(node.status) and "OPTIMIZED_OUT" not in str(node.status)
        ]

    def _request(self) -> Any:
        # A request holds the tensors of one inference and must not be shared.
        if not hasattr(self._per_thread, "request"):
            self._per_thread.request = self._compiled.create_infer_request()
        return self._per_thread.request


class _SignalStack(ctypes.Structure):
    """stack_t of sigaltstack(2) on Linux."""

    _fields_ = (("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def compile_for_cpu(model: Any, options: Mapping[str, Any]) -> Any:
    """An `openvino.Model`, or the path of one, compiled in a runtime of its own (`openvino.Core`).

    Of its own, because one that is shared hands the threads of a model that has ended to the next one, whose first
    inference is a segmentation fault now and then (OpenVINO 2026.4).
    """
    import openvino

    with _same_signal_stack():
        return openvino.Core().compile_model(model, "CPU", dict(options))


@contextlib.contextmanager
def _same_signal_stack() -> Iterator[None]:
    """Restore this thread's alternate stack for signals (sigaltstack) at the end.

    OpenVINO's CPU plugin sets one of its own, and restores the former one when it ends, if its own is still set then.
    Several that do not end in the reverse order of their beginning leave one that is freed, on which the next Ctrl-C is
    a segmentation fault.
    """
    if sys.platform != "linux":  # elsewhere the plugin sets none
        yield
        return
    libc, former = ctypes.CDLL(None), _SignalStack()
    libc.sigaltstack(None, ctypes.byref(former))
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(former), None)


def _free_settings(openvino: Any, model: Any) -> dict[str, NDArray[np.float32]]:
    """Make the score threshold an input again, of which OpenVINO's ONNX reader makes a constant; gives its default."""
    for node in model.get_ops():
        if node.get_type_name() == "Constant" and node.get_friendly_name() == SCORE_THRESHOLD:
            default = np.array(node.get_data(), np.float32)
            parameter = openvino.opset15.parameter(default.shape, np.float32, name=SCORE_THRESHOLD)
            parameter.output(0).set_names({SCORE_THRESHOLD})
            node.output(0).replace(parameter.output(0))
            model.add_parameters([parameter])
            return {SCORE_THRESHOLD: default}
    return {}


def _tensor(port: Any) -> Tensor:
    element = port.element_type.get_type_name()
    sides = () if port.partial_shape.rank.is_dynamic else port.partial_shape
    shape = tuple(None if side.is_dynamic else side.get_length() for side in sides)
    return Tensor(port.any_name, _TYPES.get(element, f"tensor({element})"), shape)


def _last_line(error: Exception) -> str:
    """The reason: OpenVINO puts the place in its source code before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable(lines[-1]) if lines else type(error).__name__
