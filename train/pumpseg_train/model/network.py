"""The three dense networks of a Mask R-CNN: trunk (backbone, FPN, RPN), box head and mask head."""

from dataclasses import dataclass

import keras
from keras import layers

from pumpseg_train.model.backbone import efficientnet_lite0, load_imagenet_weights
from pumpseg_train.model.profile import Profile


@dataclass(frozen=True)
class MaskRCNN:
    """A Mask R-CNN for `classes` as functional Keras models; what lies between them is plain arithmetic.

    - `trunk`: image (B, H, W, 3) RGB in 0..255 -> {"p3" .. "p5": (B, H/s, W/s, C), "objectness":
      logits (B, A), "anchor_deltas": (B, A, 4)}, anchors ordered as `boxes.anchors`.
    - `box_head`: pooled (N, 7, 7, C) -> {"class_logits": (N, K + 1), background first, "box_deltas": (N, 4)}.
    - `mask_head`: pooled (N, 14, 14, C) -> {"mask_logits": (N, 28, 28)}.

    Boxes and masks are class-agnostic (Mask R-CNN, table 2b: as good, and the head is smaller).
    """

    profile: Profile
    classes: tuple[str, ...]
    trunk: keras.Model
    box_head: keras.Model
    mask_head: keras.Model

    @property
    def parts(self) -> dict[str, keras.Model]:
        return {"trunk": self.trunk, "box_head": self.box_head, "mask_head": self.mask_head}


def build_mask_rcnn(profile: Profile, classes: tuple[str, ...], *, imagenet: bool = False) -> MaskRCNN:
    """Builds a model with random heads; `imagenet` loads the backbone's published weights."""
    model = MaskRCNN(profile, tuple(classes), _trunk(profile), _box_head(profile, len(classes)), _mask_head(profile))
    if imagenet:
        load_imagenet_weights(model.trunk)
    return model


def _trunk(profile: Profile) -> keras.Model:
    image = keras.Input((None, None, 3), name="image")
    x = layers.Rescaling(profile.pixel_scale, -profile.pixel_mean * profile.pixel_scale, name="normalize")(image)
    pyramid = _feature_pyramid(efficientnet_lite0(x), profile.fpn_channels)

    # Region Proposal Network (Faster R-CNN, section 3.1): one head shared by all levels.
    conv = _conv3x3(profile.fpn_channels, "rpn_conv")
    objectness = layers.Conv2D(profile.anchors_per_cell, 1, kernel_initializer=_small(), name="rpn_objectness")
    deltas = layers.Conv2D(4 * profile.anchors_per_cell, 1, kernel_initializer=_small(), name="rpn_deltas")
    hidden = [conv(level) for level in pyramid]
    outputs = dict(zip(("p3", "p4", "p5"), pyramid, strict=True))
    outputs["objectness"] = layers.Concatenate(axis=1, name="objectness")(
        [layers.Reshape((-1,))(objectness(level)) for level in hidden]
    )
    outputs["anchor_deltas"] = layers.Concatenate(axis=1, name="anchor_deltas")(
        [layers.Reshape((-1, 4))(deltas(level)) for level in hidden]
    )
    return keras.Model(image, outputs, name="trunk")


def _feature_pyramid(features: list[keras.KerasTensor], channels: int) -> list[keras.KerasTensor]:
    """Feature Pyramid Networks, section 3: lateral 1x1, nearest x2 top-down sum, 3x3 output; finest first."""
    x = None
    outputs = []
    for level, feature in reversed(list(enumerate(features, start=3))):
        lateral = layers.Conv2D(channels, 1, name=f"fpn_lateral{level}")(feature)
        if x is not None:
            lateral = layers.Add(name=f"fpn_sum{level}")([lateral, layers.UpSampling2D(2, name=f"fpn_up{level}")(x)])
        x = lateral
        outputs.append(layers.Conv2D(channels, 3, padding="same", name=f"fpn_output{level}")(x))
    return outputs[::-1]


def _box_head(profile: Profile, classes: int) -> keras.Model:
    pooled = keras.Input((profile.box_pool, profile.box_pool, profile.fpn_channels), name="box_features")
    x = layers.Flatten(name="box_flatten")(pooled)
    x = layers.Dense(profile.box_units, "relu", kernel_initializer="he_normal", name="box_fc1")(x)
    x = layers.Dense(profile.box_units, "relu", kernel_initializer="he_normal", name="box_fc2")(x)
    outputs = {
        "class_logits": layers.Dense(classes + 1, kernel_initializer=_small(), name="class_logits")(x),
        "box_deltas": layers.Dense(4, kernel_initializer=_small(0.001), name="box_deltas")(x),
    }
    return keras.Model(pooled, outputs, name="box_head")


def _mask_head(profile: Profile) -> keras.Model:
    pooled = keras.Input((profile.mask_pool, profile.mask_pool, profile.fpn_channels), name="mask_features")
    x = pooled
    for index in range(profile.mask_convs):
        x = _conv3x3(profile.mask_channels, f"mask_conv{index + 1}")(x)
    x = layers.Conv2DTranspose(
        profile.mask_channels, 2, 2, activation="relu", kernel_initializer="he_normal", name="mask_upsample"
    )(x)
    x = layers.Conv2D(1, 1, kernel_initializer=_small(), name="mask_logits_map")(x)
    logits = layers.Reshape((profile.mask_size, profile.mask_size), name="mask_logits")(x)
    return keras.Model(pooled, {"mask_logits": logits}, name="mask_head")


def _conv3x3(channels: int, name: str) -> layers.Layer:
    return layers.Conv2D(channels, 3, padding="same", activation="relu", kernel_initializer="he_normal", name=name)


def _small(stddev: float = 0.01) -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=stddev)
