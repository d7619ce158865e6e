"""Reads the weights of an exported ONNX file back into Keras."""

from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np

from pumpseg.errors import PumpsegError, first_line
from pumpseg.inference.onnx_file import check_onnx_file
from pumpseg_train.model.network import MaskRCNN

if TYPE_CHECKING:
    import onnx


def read_onnx_weights(model: MaskRCNN, path: Path) -> dict[str, list[np.ndarray]]:
    """The weights in the exported file at `path` of each convolution and dense layer of `model`, as Keras has them.

    Shapes are those of the file: a class layer of other classes has another number of outputs.

    `model` has ImageNet weights. Export multiplies most convolutions by the batch normalisation that follows; training
    never changes that one, so dividing by it restores the convolution.

    Raises:
        PumpsegError: the file is damaged or quantised, lacks a layer, or was exported with another normalisation; or
            the package onnx is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise PumpsegError(f"reading {path} needs the package onnx: pip install 'pumpseg[export]'") from None
    check_onnx_file(path)
    try:
        return _read_weights(model, onnx.load(str(path), load_external_data=False).graph, path)
    except PumpsegError:
        raise
    except Exception as error:  # protobuf's own kinds, and what follows from nodes that make no sense
        raise PumpsegError(f"{path} cannot be read as an export of this profile: {first_line(error)}") from None


def _read_weights(model: MaskRCNN, graph: "onnx.GraphProto", path: Path) -> dict[str, list[np.ndarray]]:
    # Not by part: an exported trunk begins the heads, see `pumpseg_export.dense.split_pointwise`.
    layers = [layer for part in model.parts.values() for layer in part.layers if layer.weights]
    norms = {layer.name: layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)}
    layers = [layer for layer in layers if layer.name not in norms]
    kernels = _read_kernels(graph, {layer.name for layer in layers})
    weights = {}
    for layer in layers:
        if layer.name not in kernels:
            raise PumpsegError(
                f"{path} has no float weights of the layer {layer.name}: name a float32 export of the edge profile"
            )
        weights[layer.name] = _to_keras(
            layer, *kernels[layer.name], norms.get(f"{layer.name}_bn"), f"{path}: {layer.name}"
        )
    return weights


def _read_kernels(graph: "onnx.GraphProto", layers: set[str]) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """Kernel and bias of each of the `layers`, in ONNX layout; nodes keep the names of their Keras layers."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in constants:  # weights stored in half precision
            constants[node.output[0]] = constants[node.input[0]]
    found: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
    for node in graph.node:
        if node.op_type not in ("Conv", "ConvTranspose", "MatMul", "Add"):
            continue
        own = [name for name in node.input if name in constants]
        words = {word for name in (*own, *node.output, node.name) for word in name.split("/")}
        names = {name for word in words if (name := _layer_of(word, layers))}
        if not own or len(names) != 1:
            continue
        name = names.pop()
        values = [numpy_helper.to_array(constants[each]).astype(np.float32) for each in own]
        if node.op_type == "Add":
            if name in found and found[name][0].ndim == 2:  # the bias of a dense layer
                found[name] = (found[name][0], values[0])
        elif name not in found:
            found[name] = (values[0], values[1] if len(values) > 1 else None)
    return found


def _layer_of(word: str, layers: set[str]) -> str | None:
    """The layer that part of a node's name stands for: "block3_expand_bn_1" is the convolution block3_expand."""
    stem, _, number = word.rpartition("_")
    name = stem if number.isdigit() and word not in layers else word
    name = name.removesuffix("_bn")
    return name if name in layers else None


def _to_keras(
    layer: keras.layers.Layer, kernel: np.ndarray, bias: np.ndarray | None, norm: keras.layers.Layer | None, what: str
) -> list[np.ndarray]:
    if kernel.ndim == 4 and isinstance(layer, keras.layers.DepthwiseConv2D):
        kernel = kernel.transpose(2, 3, 0, 1)  # C, 1, y, x -> y, x, C, 1
    elif kernel.ndim == 4:
        kernel = kernel.transpose(
            2, 3, 1, 0
        )  # out, in, y, x -> y, x, in, out; the other way round for a transposed one
    if norm is None or bias is None:  # tf2onnx keeps the normalisation of depthwise convolutions separate
        return [kernel] if bias is None else [kernel, bias]
    gamma, beta, mean, variance = norm.get_weights()
    scale = gamma / np.sqrt(variance + norm.epsilon)
    if not np.allclose(bias, beta - mean * scale, rtol=1e-2, atol=1e-2):
        raise PumpsegError(f"{what} was exported with a batch normalisation other than ImageNet's")
    return [kernel / scale]
