"""The dense networks through tf2onnx, channels first at both ends."""

import keras
import onnx

from pumpseg.errors import PumpsegError
from pumpseg_export.graph import OPSET


def convert_dense(model: keras.Model, shape: tuple[int | None, ...]) -> onnx.ModelProto:
    """Converts a functional model of one input of `shape` (batch first, channels last) at opset 17.

    The outputs keep the names that the model gives them, in alphabetical order. The input and
    4-dimensional outputs become channels first, which leaves no Transpose around the convolutions.

    Raises:
        PumpsegError: Keras runs on another backend than TensorFlow, the only one tf2onnx reads.
    """
    if keras.backend.backend() != "tensorflow":
        raise PumpsegError(
            f"export needs Keras on TensorFlow, not {keras.backend.backend()}: set KERAS_BACKEND=tensorflow "
            "(a run trained on another backend exports all the same)"
        )
    import tensorflow as tf
    import tf2onnx.convert

    place = keras.Input(shape[1:], batch_size=shape[0], name="input")
    outputs = model(place)  # called anew, so that every layer knows the fixed size
    fixed = keras.Model(place, outputs, name=model.name)
    # tf2onnx names outputs after the model, and Keras sorts them by key.
    names = [model.name if number == 0 else f"{model.name}_{number}" for number in range(len(outputs))]
    keys = sorted(outputs)
    converted, _ = tf2onnx.convert.from_keras(
        fixed,
        (tf.TensorSpec(shape, tf.float32, name="input"),),
        opset=OPSET,
        inputs_as_nchw=["input"],
        outputs_as_nchw=[name for name, key in zip(names, keys, strict=True) if len(outputs[key].shape) == 4],
    )
    _rename_outputs(converted, keys)
    return converted


def _rename_outputs(model: onnx.ModelProto, names: list[str]) -> None:
    renamed = {output.name: name for output, name in zip(model.graph.output, names, strict=True)}
    for output in model.graph.output:
        output.name = renamed[output.name]
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
