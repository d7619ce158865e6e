"""Writes ONNX graphs node by node, and inlines converted ones."""

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET = 17  # the newest that tf2onnx writes is 18; RoiAlign with half_pixel needs 16
IR_VERSION = 8  # the one that belongs to opset 17; newer ones shut out older runtimes


class GraphWriter:
    """Collects nodes and constants; every call returns the names of the tensors it adds."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._settings: list[onnx.ValueInfoProto] = []
        self._inlined: dict[bytes, str] = {}  # initializers of inlined models, by their content

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with one output."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Adds a node with several outputs."""
        number = len(self._nodes)
        names = [f"{kind}_{number}_{output}" for output in range(outputs)]
        self._nodes.append(helper.make_node(kind, inputs, names, f"{kind}_{number}", **attributes))
        return names

    def constant(self, value: Any, dtype: Any = np.float32, name: str = "") -> str:
        name = name or f"constant_{len(self._initializers)}"
        self._initializers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def setting(self, name: str, default: Any, dtype: Any = np.float32) -> str:
        """An optional input: if callers leave it out, ONNX takes the initializer of its name."""
        self.constant(default, dtype, name=name)
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self._settings.append(helper.make_tensor_value_info(name, kind, np.shape(default)))
        return name

    def ints(self, *values: int) -> str:
        """A constant int64 vector: a shape, axes or indices."""
        return self.constant(values, np.int64)

    def inline(self, model: onnx.ModelProto, prefix: str, *inputs: str) -> dict[str, str]:
        """Adds a whole model, run on `inputs`; returns its output names -> names here.

        A model inlined twice, under different prefixes, has its weights once.
        """
        graph = model.graph
        names = {"": ""} | {place.name: name for place, name in zip(graph.input, inputs, strict=True)}

        def here(name: str) -> str:
            return names.setdefault(name, f"{prefix}/{name}")

        for tensor in graph.initializer:
            copy = onnx.TensorProto()
            copy.CopyFrom(tensor)
            copy.name = ""
            content = copy.SerializeToString(deterministic=True)
            if content in self._inlined:
                names[tensor.name] = self._inlined[content]
                continue
            copy.name = self._inlined[content] = here(tensor.name)
            self._initializers.append(copy)
        for node in graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = f"{prefix}/{node.name}"
            copy.input[:] = [here(name) for name in node.input]
            copy.output[:] = [here(name) for name in node.output]
            self._nodes.append(copy)
        return {output.name: here(output.name) for output in graph.output}

    def model(
        self,
        name: str,
        inputs: list[onnx.ValueInfoProto],
        outputs: dict[str, tuple[str, onnx.ValueInfoProto]],
    ) -> onnx.ModelProto:
        """The finished, checked model; `outputs` maps each output's name to its tensor and its type."""
        for output, (tensor, _) in outputs.items():
            self._nodes.append(helper.make_node("Identity", [tensor], [output], f"output_{output}"))
        inputs = [*inputs, *self._settings]
        graph = helper.make_graph(self._nodes, name, inputs, [info for _, info in outputs.values()], self._initializers)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="pumpseg",
        )
        onnx.checker.check_model(model, full_check=True)
        return model
