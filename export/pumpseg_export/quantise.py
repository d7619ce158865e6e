"""Static quantisation to int8 of one dense part of an assembled graph, by onnxruntime.quantization.

The part is extracted from the graph, calibrated and quantised by itself, and put back: so the tensors between the
parts, which may be empty, never reach the calibration, and everything else stays float32.
"""

import copy
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quant_pre_process,
    quantize_static,
)

from pumpseg.errors import PumpsegError
from pumpseg.inference.providers import open_session

TRUNK, MASK_HEAD = "trunk", "mask_head"  # what `assemble` puts before the names of a part's nodes
METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}


def quantise(model: onnx.ModelProto, part: str, images: Sequence[NDArray[np.uint8]], method: str) -> onnx.ModelProto:
    """A copy of a model whose `part` computes in int8, written as QuantizeLinear and DequantizeLinear.

    Weights become int8 with a scale for every output channel, activations uint8 with a zero point.
    images: model inputs, uint8 (1, H, W, 3) RGB. method: one of METHODS, how the range of an activation follows from
    its values on them.

    Raises:
        PumpsegError: the graph has no such part, or nothing reaches it, such as the mask head when nothing is detected
            in any image.
    """
    result = copy.deepcopy(model)
    if not any(_is_in(node, part) for node in model.graph.node):
        raise PumpsegError(f"the graph has no part {part!r}: was it made by this version of pumpseg-export?")
    taken, given = _ends(model.graph, part)
    extractor = onnx.utils.Extractor(onnx.shape_inference.infer_shapes(model))
    with tempfile.TemporaryDirectory() as folder:
        steps = Path(folder)
        onnx.save(extractor.extract_model(["image"], [taken]), steps / "before.onnx")
        extracted = extractor.extract_model([taken], given)
        _unshare(extracted.graph)
        onnx.save(extracted, steps / "part.onnx")
        model_inputs = _PartInputs(steps / "before.onnx", taken, images)
        if not len(model_inputs):
            raise PumpsegError(f"nothing is detected in {len(images)} calibration photos: name some that show a class")
        known = _range_of_image(model.graph, taken)
        # Batch normalisations become part of the convolutions, and every tensor gets a shape.
        quant_pre_process(steps / "part.onnx", steps / "prepared.onnx", skip_symbolic_shape=True)
        with redirect_stdout(StringIO()):
            quantize_static(
                steps / "prepared.onnx",
                steps / "int8.onnx",
                model_inputs,
                QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=METHODS[method],
                # One image at a time: the collectors keep every activation of all images of a step.
                extra_options={
                    "CalibStridedMinMax": 1,
                    "TensorQuantOverrides": {taken: [known]} if known else {},
                },
            )
        _put_in_place(result.graph, part, onnx.load(steps / "int8.onnx").graph)
        if known:
            _drop_quantising(result.graph, taken)
    onnx.checker.check_model(result, full_check=True)
    return result


def _is_in(node: onnx.NodeProto, part: str) -> bool:
    return node.name.startswith(f"{part}/")


def _ends(graph: onnx.GraphProto, part: str) -> tuple[str, list[str]]:
    """Names of the input tensor of a part and of its outputs."""
    nodes = [node for node in graph.node if _is_in(node, part)]
    made = {name for node in nodes for name in node.output}
    known = made | {tensor.name for tensor in graph.initializer} | {""}
    (taken,) = {name for node in nodes for name in node.input if name not in known}
    given = {name for node in graph.node if not _is_in(node, part) for name in node.input if name in made}
    return taken, sorted(given)


def _range_of_image(graph: onnx.GraphProto, taken: str) -> dict[str, NDArray[np.generic]]:
    """Scale and zero point of the input of a part if it is dequantised int8, as an image is; else nothing."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and taken in node.output:
            return {"scale": values[node.input[1]], "zero_point": values[node.input[2]]}
    return {}


def _drop_quantising(graph: onnx.GraphProto, taken: str) -> None:
    """Removes the QuantizeLinear and DequantizeLinear after a tensor that is the output of a like DequantizeLinear."""
    (quantise_it,) = (node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == taken)
    (restore_it,) = (node for node in graph.node if quantise_it.output[0] in node.input)
    for node in graph.node:
        node.input[:] = [taken if name == restore_it.output[0] else name for name in node.input]
    graph.node.remove(quantise_it)
    graph.node.remove(restore_it)
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)


def _unshare(graph: onnx.GraphProto) -> None:
    """Gives every node weights of its own where levels of the pyramid share them.

    Without int8 instructions ONNX Runtime makes int8 weights uint8, which it cannot do twice to one tensor.
    """
    weights = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) > 1}
    taken: set[str] = set()
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in taken:
                copy = graph.initializer.add()
                copy.CopyFrom(weights[name])
                copy.name = node.input[place] = f"{name}/{node.name}"
            elif name in weights:
                taken.add(name)


def _put_in_place(graph: onnx.GraphProto, part: str, other: onnx.GraphProto) -> None:
    """Replaces the nodes of a part with those of `other`, whose inputs and outputs have the same names."""
    ends = {value.name for value in (*other.input, *other.output)}

    def here(name: str) -> str:
        return name if not name or name in ends or name.startswith(f"{part}/") else f"{part}/{name}"

    for tensor in other.initializer:
        tensor.name = here(tensor.name)
    for node in other.node:
        node.name = here(node.name)
        node.input[:] = [here(name) for name in node.input]
        node.output[:] = [here(name) for name in node.output]
    nodes = list(graph.node)
    first = next(place for place, node in enumerate(nodes) if _is_in(node, part))
    rest = [node for node in nodes[first:] if not _is_in(node, part)]
    initializers = [tensor for tensor in graph.initializer if not tensor.name.startswith(f"{part}/")]
    del graph.node[:], graph.initializer[:]
    graph.node.extend([*nodes[:first], *other.node, *rest])
    graph.initializer.extend([*initializers, *other.initializer])


class _PartInputs(CalibrationDataReader):
    """The inputs of a part, one image at a time: the output `name` of a file, where that is not empty."""

    def __init__(self, file: Path, name: str, images: Sequence[NDArray[np.uint8]]) -> None:
        self._session = open_session(file, "cpu")
        self._name = name
        self._images = [image for image in images if self._run(image).size]
        self.set_range(0, len(self._images))

    def __len__(self) -> int:
        return len(self._images)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._left = iter(self._images[start_index:end_index])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        image = next(self._left, None)
        return None if image is None else {self._name: self._run(image)}

    def _run(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        value: NDArray[np.float32] = self._session.run([self._name], {"image": image})[0]
        return value
