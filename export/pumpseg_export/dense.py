"""The dense networks through tf2onnx, channels first at both ends."""

from typing import Any

import keras
import onnx

from pumpseg.errors import PumpsegError
from pumpseg_export.graph import OPSET


def convert_dense(model: keras.Model, shape: tuple[int | None, ...]) -> onnx.ModelProto:
    """Converts a functional model of one input of `shape` (batch first, channels last) at opset 17.

    The input is normalised already: a trunk's Rescaling is left out, see `assemble`. The outputs keep their names, in
    alphabetical order. The input and 4-dimensional outputs become channels first, which leaves no Transpose around the
    convolutions.

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
    outputs = _for_export(model)(place)  # called again, so that every layer knows the fixed size
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


def split_pointwise(head: keras.Model) -> tuple[keras.layers.Layer, keras.Model] | None:
    """The 1x1 convolution that a head begins with, without its activation, and what follows; None if it has none.

    It can be applied to the maps before RoIAlign, whose samples are averages weighted by numbers that add up to one:
    the result is the same, once for every cell instead of once for every cell of every RoI, and fewer channels are
    pooled.
    """
    first = head.layers[1]
    if not (isinstance(first, keras.layers.Conv2D) and first.kernel_size == (1, 1)):
        return None
    pointwise = keras.layers.Conv2D.from_config(first.get_config() | {"activation": None})
    pointwise.build(first.input.shape)
    pointwise.set_weights(first.get_weights())
    pooled = keras.Input(first.output.shape[1:])
    rest = keras.Model(first.output, head.output)
    return pointwise, keras.Model(pooled, rest(first.activation(pooled)), name=head.name)


class _Resize(keras.layers.UpSampling2D):
    """Its base in one operator.

    The base repeats rows and columns, which becomes Tile and Transpose, slow and in the way of ONNX Runtime's blocked
    layout; with a Resize the whole pyramid stays in that.
    """

    def call(self, inputs: Any) -> Any:
        import tensorflow as tf

        height, width = (side * factor for side, factor in zip(inputs.shape[1:3], self.size, strict=True))
        return tf.raw_ops.ResizeNearestNeighbor(images=inputs, size=[height, width])


def _for_export(model: keras.Model) -> keras.Model:
    """The model with `_Resize` for every nearest UpSampling2D and nothing for a Rescaling; all other layers, and so the
    weights, are its own."""

    def change(layer: keras.layers.Layer) -> keras.layers.Layer:
        if type(layer) is keras.layers.UpSampling2D:
            return _Resize.from_config(layer.get_config())
        return keras.layers.Identity(name=layer.name) if type(layer) is keras.layers.Rescaling else layer

    return keras.models.clone_model(model, clone_function=change)


def _rename_outputs(model: onnx.ModelProto, names: list[str]) -> None:
    renamed = {output.name: name for output, name in zip(model.graph.output, names, strict=True)}
    for output in model.graph.output:
        output.name = renamed[output.name]
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
