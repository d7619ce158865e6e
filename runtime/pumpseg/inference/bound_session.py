"""ONNX Runtime on a device with its own memory: each frame is uploaded into a buffer that stays there."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class BoundSession:
    """A session run through an I/O binding; otherwise like the `onnxruntime.InferenceSession` that it wraps.

    device: where the input is, as OrtValue names it: "cuda", or "cpu". Outputs are returned as arrays, because the
    number of instances is not known before the run. Several threads may share it; each one has its own buffer.
    """

    def __init__(self, ort: Any, session: Any, device: str) -> None:
        self._ort, self._session, self._device = ort, session, device
        self._per_thread = threading.local()
        self._uploads = {tensor.name for tensor in session.get_inputs()}
        self.get_inputs, self.get_outputs = session.get_inputs, session.get_outputs
        self.get_overridable_initializers = session.get_overridable_initializers
        self.get_modelmeta, self.get_providers = session.get_modelmeta, session.get_providers
        self.end_profiling = session.end_profiling

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
