"""ONNX Runtime on a device with its own memory: each frame is uploaded into a buffer that stays there.

A graph with fixed shapes also gets a fixed buffer for each output, so that a CUDA graph can hold it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ELEMENTS: dict[str, Any] = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


def has_fixed_outputs(session: Any) -> bool:
    """Whether every output has a shape that no image changes, as `pumpseg-export --static` makes them."""
    return all(
        output.type in _ELEMENTS and all(isinstance(side, int) and side > 0 for side in output.shape)
        for output in session.get_outputs()
    )


class _DeviceSession:
    """What the sessions below have in common: all but `run` is that of the `onnxruntime.InferenceSession` inside."""

    def __init__(self, ort: Any, session: Any, device: str) -> None:
        self._ort, self._session, self._device = ort, session, device
        self.get_inputs, self.get_outputs = session.get_inputs, session.get_outputs
        self.get_overridable_initializers = session.get_overridable_initializers
        self.get_modelmeta, self.get_providers = session.get_modelmeta, session.get_providers
        self.end_profiling = session.end_profiling


class BoundSession(_DeviceSession):
    """A session run through an I/O binding; otherwise like the `onnxruntime.InferenceSession` that it wraps.

    device: where the input is, as OrtValue names it: "cuda", or "cpu". Outputs are returned as arrays, because the
    number of instances is not known before the run. Several threads may share it; each one has its own buffer.
    """

    def __init__(self, ort: Any, session: Any, device: str) -> None:
        super().__init__(ort, session, device)
        self._per_thread = threading.local()
        self._uploads = {tensor.name for tensor in session.get_inputs()}

    def run(self, names: Sequence[str] | None, model_inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The named outputs, or all."""
        binding = self._session.io_binding()
        for name, array in model_inputs.items():
            # A setting stays on the CPU, where shapes and thresholds are computed.
            device = self._device if name in self._uploads else "cpu"
            binding.bind_ortvalue_input(name, self._placed(name, array, device))
        for name in names or [output.name for output in self.get_outputs()]:
            binding.bind_output(name)
        self._session.run_with_iobinding(binding)
        outputs: list[NDArray[Any]] = binding.copy_outputs_to_cpu()
        return outputs

    def _placed(self, name: str, array: NDArray[Any], device: str) -> Any:
        array = np.ascontiguousarray(array)
        buffers = self._per_thread.__dict__.setdefault("buffers", {})
        value = buffers.get(name)
        if value is None or tuple(value.shape()) != array.shape:
            buffers[name] = value = self._ort.OrtValue.ortvalue_from_numpy(array, device, 0)
        else:
            value.update_inplace(array)
        return value


@dataclass(frozen=True)
class _Binding:
    """An I/O binding and its buffers on the device, by name."""

    binding: Any
    options: Any
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]


class FixedSession(_DeviceSession):
    """A session of a graph with fixed shapes, all of whose buffers stay where they are.

    That is what a captured CUDA graph needs: it reads and writes the same addresses at every run. Settings are on the
    device too, since a captured graph has no other inputs. Each set of inputs that is given has a graph and buffers of
    its own. Several threads may share a session; they take turns. Otherwise like `BoundSession`.
    """

    def __init__(self, ort: Any, session: Any, device: str) -> None:
        super().__init__(ort, session, device)
        self._bindings: dict[tuple[str, ...], _Binding] = {}
        self._lock = threading.Lock()

    def run(self, names: Sequence[str] | None, model_inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The named outputs, or all, as new arrays."""
        arrays = {name: np.ascontiguousarray(array) for name, array in model_inputs.items()}
        with self._lock:
            key = tuple(sorted(arrays))
            if key not in self._bindings:
                self._bindings[key] = self._bind(arrays)
            bound = self._bindings[key]
            for name, array in arrays.items():
                bound.inputs[name].update_inplace(array)
            self._session.run_with_iobinding(bound.binding, bound.options)
            return [np.array(bound.outputs[name].numpy()) for name in names or bound.outputs]

    def _bind(self, arrays: Mapping[str, NDArray[Any]]) -> _Binding:
        ort, binding = self._ort, self._session.io_binding()
        inputs = {name: ort.OrtValue.ortvalue_from_numpy(array, self._device, 0) for name, array in arrays.items()}
        outputs = {
            output.name: ort.OrtValue.ortvalue_from_shape_and_type(
                output.shape, _ELEMENTS[output.type], self._device, 0
            )
            for output in self.get_outputs()
        }
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)
        options = ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(1 + len(self._bindings)))
        return _Binding(binding, options, inputs, outputs)
