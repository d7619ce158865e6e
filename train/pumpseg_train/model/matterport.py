"""The dense networks of Matterport's mrcnn 0.2 (mrcnn/model.py) with its layer names.

Its weights fit after two conversions by `matterport.weights_file`: boxes are x before y here and y before x in mrcnn,
and the two hidden layers of the box head are dense here and convolutions in mrcnn.
All norms are frozen unless a call says `training=True`; Matterport's `TRAIN_BN`.
"""

import keras
from keras import layers

from pumpseg_train.model.profile import Profile

# identity blocks of the stages 2 to 5 after each one's first block
IDENTITY_BLOCKS = {"resnet50": (2, 3, 5, 2), "resnet101": (2, 3, 22, 2)}


def trunk(profile: Profile) -> keras.Model:
    """ResNet, FPN and RPN: see `network.MaskRCNN`."""
    image = keras.Input((None, None, 3), name="image")
    offset = [-mean * profile.pixel_scale for mean in profile.pixel_mean]
    x = layers.Rescaling(profile.pixel_scale, offset, name="normalize")(image)
    pyramid = _feature_pyramid(_resnet(x, IDENTITY_BLOCKS[profile.backbone]), profile.fpn_channels)

    anchors = profile.anchors_per_cell
    shared = layers.Conv2D(profile.rpn_channels, 3, padding="same", activation="relu", name="rpn_conv_shared")
    background_or_object = layers.Conv2D(2 * anchors, 1, name="rpn_class_raw", dtype="float32")
    deltas = layers.Conv2D(4 * anchors, 1, name="rpn_bbox_pred", dtype="float32")
    hidden = [shared(level) for level in pyramid]
    outputs = dict(zip(profile.levels, pyramid, strict=True))
    pairs = [layers.Reshape((-1, 2), dtype="float32")(background_or_object(level)) for level in hidden]
    pairs = layers.Concatenate(axis=1, name="rpn_class_logits", dtype="float32")(pairs)
    # The softmax of a pair is the sigmoid of its difference.
    outputs["objectness"] = pairs[..., 1] - pairs[..., 0]
    outputs["anchor_deltas"] = layers.Concatenate(axis=1, name="rpn_bbox", dtype="float32")(
        [layers.Reshape((-1, 4), dtype="float32")(deltas(level)) for level in hidden]
    )
    return keras.Model(image, outputs, name="trunk")


def box_head(profile: Profile, classes: int) -> keras.Model:
    """Pooled (N, 7, 7, C) -> {"class_logits": (N, K + 1), "box_deltas": (N, K + 1, 4)}."""
    pooled = keras.Input((profile.box_pool, profile.box_pool, profile.fpn_channels), name="box_features")
    # Convolutions in mrcnn; as such, ONNX Runtime would read all weights again for each of 1000 RoIs.
    x = layers.Flatten(name="box_flatten")(pooled)
    x = layers.Dense(profile.box_units, name="mrcnn_class_conv1")(x)
    x = layers.ReLU()(_norm(x, "mrcnn_class_bn1"))
    x = layers.Dense(profile.box_units, name="mrcnn_class_conv2")(x)
    x = layers.ReLU(name="box_shared")(_norm(x, "mrcnn_class_bn2"))
    deltas = layers.Dense(4 * (classes + 1), name="mrcnn_bbox_fc", dtype="float32")(x)
    outputs = {
        "class_logits": layers.Dense(classes + 1, name="mrcnn_class_logits", dtype="float32")(x),
        "box_deltas": layers.Reshape((classes + 1, 4), name="mrcnn_bbox", dtype="float32")(deltas),
    }
    return keras.Model(pooled, outputs, name="box_head")


def mask_head(profile: Profile, classes: int) -> keras.Model:
    """Pooled (N, 14, 14, C) -> {"mask_logits": (N, K + 1, 28 * 28)}."""
    pooled = keras.Input((profile.mask_pool, profile.mask_pool, profile.fpn_channels), name="mask_features")
    x = pooled
    for index in range(1, profile.mask_convs + 1):
        x = layers.Conv2D(profile.mask_channels, 3, padding="same", name=f"mrcnn_mask_conv{index}")(x)
        x = layers.ReLU()(_norm(x, f"mrcnn_mask_bn{index}"))
    x = layers.Conv2DTranspose(profile.mask_channels, 2, 2, activation="relu", name="mrcnn_mask_deconv")(x)
    x = layers.Conv2D(classes + 1, 1, name="mrcnn_mask", dtype="float32")(x)
    x = layers.Permute((3, 1, 2), name="mask_classes_first", dtype="float32")(x)
    logits = layers.Reshape((classes + 1, profile.mask_size**2), name="mask_logits", dtype="float32")(x)
    return keras.Model(pooled, {"mask_logits": logits}, name="mask_head")


def _resnet(image: keras.KerasTensor, identity_blocks: tuple[int, ...]) -> list[keras.KerasTensor]:
    """C2 to C5 of a ResNet with strides in the first 1x1 convolutions, as Caffe's, not in the 3x3 ones."""
    x = layers.ZeroPadding2D(3, name="zero_padding")(image)
    x = layers.Conv2D(64, 7, 2, name="conv1")(x)
    x = layers.ReLU()(_norm(x, "bn_conv1"))
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    outputs = []
    for stage, count in enumerate(identity_blocks, start=2):
        channels = 64 * 2 ** (stage - 2)
        for index in range(count + 1):
            block = f"{stage}{chr(ord('a') + index)}"
            x = bottleneck(x, channels, block, first=index == 0, stride=2 if index == 0 and stage > 2 else 1)
        outputs.append(x)
    return outputs


def bottleneck(x: keras.KerasTensor, channels: int, block: str, *, first: bool, stride: int) -> keras.KerasTensor:
    start = x
    for branch, outputs, kernel in (("2a", channels, 1), ("2b", channels, 3), ("2c", 4 * channels, 1)):
        x = layers.Conv2D(
            outputs, kernel, stride if branch == "2a" else 1, padding="same", name=f"res{block}_branch{branch}"
        )(x)
        x = _norm(x, f"bn{block}_branch{branch}")
        if branch != "2c":
            x = layers.ReLU()(x)
    if first:
        start = layers.Conv2D(4 * channels, 1, stride, name=f"res{block}_branch1")(start)
        start = _norm(start, f"bn{block}_branch1")
    return layers.ReLU(name=f"res{block}_out")(layers.Add()([x, start]))


def _feature_pyramid(features: list[keras.KerasTensor], channels: int) -> list[keras.KerasTensor]:
    """P2 to P6 of C2 to C5."""
    x = None
    outputs: list[keras.KerasTensor] = []
    for level, feature in reversed(list(enumerate(features, start=2))):
        lateral = layers.Conv2D(channels, 1, name=f"fpn_c{level}p{level}")(feature)
        if x is not None:
            upsampled = layers.UpSampling2D(2, name=f"fpn_p{level + 1}upsampled")(x)
            lateral = layers.Add(name=f"fpn_p{level}add")([upsampled, lateral])
        x = lateral
        outputs.insert(0, layers.Conv2D(channels, 3, padding="same", name=f"fpn_p{level}")(x))
    return [*outputs, layers.MaxPooling2D(1, 2, name="fpn_p6")(outputs[-1])]


def _norm(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return layers.BatchNormalization(epsilon=1e-3, name=name)(x)
