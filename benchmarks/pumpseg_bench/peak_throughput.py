"""Peak throughput of this machine: a large convolution and a large matrix product in ONNX Runtime on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pumpseg.inference.providers import import_onnxruntime

_CHANNELS, _SIDE, _KERNEL = 256, 48, 3
_CONVOLUTION_OPERATIONS = 2 * _CHANNELS * _CHANNELS * _KERNEL**2 * _SIDE**2
_MATRIX = 1024
_PRODUCT_OPERATIONS = 2 * _MATRIX**3


@dataclass(frozen=True)
class Peak:
    """The better of convolution and matrix product, median over the rounds."""

    threads: int
    float32: Annotated[float, "GFLOP/s"]
    int8: Annotated[float, "GOP/s"]


class PeakMeter:
    """Measures the peak for one number of threads, a little in every round, next to the rows it is compared with."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        rng = np.random.default_rng(0)
        self._probes = [_Probe(kind, operations, threads, rng) for kind, operations in _PROBES]
        for probe in self._probes:
            probe.run()

    @property
    def rounds(self) -> int:
        return min(len(probe.seconds) for probe in self._probes)

    def run(self) -> None:
        for probe in self._probes:
            probe.seconds.append(probe.run())

    def peak(self) -> Peak:
        best = {"float32": 0.0, "int8": 0.0}
        for probe in self._probes:
            rate = probe.operations / float(np.median(probe.seconds)) / 1e9
            best[probe.kind.split()[0]] = max(best[probe.kind.split()[0]], rate)
        return Peak(self._threads, best["float32"], best["int8"])


_PROBES = (
    ("float32 convolution", _CONVOLUTION_OPERATIONS),
    ("float32 product", _PRODUCT_OPERATIONS),
    ("int8 convolution", _CONVOLUTION_OPERATIONS),
    ("int8 product", _PRODUCT_OPERATIONS),
)


class _Probe:
    def __init__(self, kind: str, operations: int, threads: int, rng: np.random.Generator) -> None:
        self.kind, self.operations = kind, operations
        self.seconds: list[float] = []
        ort = import_onnxruntime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.force_spinning_stop", "1")
        model = _model(kind, rng)
        self._session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        wanted = self._session.get_inputs()[0]
        values = rng.integers(0, 255, wanted.shape)
        self._inputs = {wanted.name: values.astype(np.uint8 if "uint8" in wanted.type else np.float32)}

    def run(self) -> float:
        start = perf_counter()
        self._session.run(None, self._inputs)
        return perf_counter() - start


def _model(kind: str, rng: np.random.Generator) -> onnx.ModelProto:
    int8 = kind.startswith("int8")
    convolution = kind.endswith("convolution")
    input_shape = [1, _CHANNELS, _SIDE, _SIDE] if convolution else [_MATRIX, _MATRIX]
    weight_shape = [_CHANNELS, _CHANNELS, _KERNEL, _KERNEL] if convolution else [_MATRIX, _MATRIX]
    weights = rng.integers(-100, 100, weight_shape).astype(np.int8 if int8 else np.float32)
    constants: dict[str, Any] = {"w": weights}
    attributes: dict[str, Any] = {"pads": [1, 1, 1, 1]} if convolution else {}
    if not int8:
        operator, inputs, output = ("Conv" if convolution else "MatMul"), ["x", "w"], TensorProto.FLOAT
    elif convolution:
        operator, output = "QLinearConv", TensorProto.UINT8
        inputs = ["x", "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero"]
        constants |= {"x_scale": np.float32(0.02), "w_scale": np.float32(0.01), "y_scale": np.float32(9)}
        constants |= {"x_zero": np.uint8(128), "w_zero": np.int8(0), "y_zero": np.uint8(128)}
    else:
        operator, inputs, output = "MatMulInteger", ["x", "w", "x_zero", "w_zero"], TensorProto.INT32
        constants |= {"x_zero": np.uint8(128), "w_zero": np.int8(0)}
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, ["y"], **attributes)],
        "peak",
        [helper.make_tensor_value_info("x", TensorProto.UINT8 if int8 else TensorProto.FLOAT, input_shape)],
        [helper.make_tensor_value_info("y", output, input_shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
