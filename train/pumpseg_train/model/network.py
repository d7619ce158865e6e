"""The three dense networks of a Mask R-CNN: trunk (backbone, FPN, RPN), box head and mask head."""

from dataclasses import dataclass

import keras
from keras import layers

from pumpseg_train.model import matterport
from pumpseg_train.model.backbone import efficientnet_lite0, load_imagenet_weights
from pumpseg_train.model.profile import Profile


@dataclass(frozen=True)
class MaskRCNN:
    """A Mask R-CNN for `classes` as functional Keras models; plain arithmetic connects them.

    - `trunk`: image (B, H, W, 3) RGB in 0..255 -> {"p3" .. "p5": (B, H/s, W/s, C), "objectness":
      logits (B, A), "anchor_deltas": (B, A, 4)}, levels as in the profile, anchors ordered as `boxes.anchors`. That of
      the edge profile also has the last two outputs of the backbone, "c4" and "c5", which a verifier reads.
    - `box_head`: pooled (N, 7, 7, C) -> {"class_logits": (N, K + 1), background first, "box_deltas": (N, 4)}.
    - `mask_head`: pooled (N, 14, 14, C) -> {"mask_logits": (N, 28, 28)}.

    Boxes and masks are class-agnostic (Mask R-CNN, table 2b: as good, and the head is smaller) unless the profile
    says otherwise; then "box_deltas" are (N, K + 1, 4) and "mask_logits" (N, K + 1, 28 * 28).
    Logits and deltas are float32 under any dtype policy.
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
    """Builds a model with random heads; `imagenet` loads the published weights of the edge profile's backbone."""
    trunk, box_head, mask_head = _NETWORKS[profile.backbone]
    count = len(classes)
    model = MaskRCNN(profile, tuple(classes), trunk(profile), box_head(profile, count), mask_head(profile, count))
    if imagenet:
        load_imagenet_weights(model.trunk)
    return model


def _trunk(profile: Profile) -> keras.Model:
    image = keras.Input((None, None, 3), name="image")
    offset = [-mean * profile.pixel_scale for mean in profile.pixel_mean]
    x = layers.Rescaling(profile.pixel_scale, offset, name="normalize")(image)
    features = efficientnet_lite0(x)
    pyramid = _feature_pyramid(features, profile.fpn_channels)

    # Region Proposal Network (Faster R-CNN, section 3.1): one head shared by all levels. Its 3x3 convolution is a
    # separable one (MobileNetV2, section 6.2, SSDLite): a full one took a tenth of a frame's time.
    spatial = layers.DepthwiseConv2D(
        3, padding="same", use_bias=False, depthwise_initializer=_small(1 / 3), name="rpn_depthwise"
    )
    mix = layers.Conv2D(
        profile.rpn_channels, 1, activation="relu", kernel_initializer="he_normal", name="rpn_pointwise"
    )
    objectness = layers.Conv2D(
        profile.anchors_per_cell, 1, kernel_initializer=_small(), name="rpn_objectness", dtype="float32"
    )
    deltas = layers.Conv2D(
        4 * profile.anchors_per_cell, 1, kernel_initializer=_small(), name="rpn_deltas", dtype="float32"
    )
    hidden = [mix(spatial(level)) for level in pyramid]
    outputs = dict(zip(profile.levels, pyramid, strict=True))
    outputs |= {"c4": features[1], "c5": features[2]}
    outputs["objectness"] = layers.Concatenate(axis=1, name="objectness", dtype="float32")(
        [layers.Reshape((-1,), dtype="float32")(objectness(level)) for level in hidden]
    )
    outputs["anchor_deltas"] = layers.Concatenate(axis=1, name="anchor_deltas", dtype="float32")(
        [layers.Reshape((-1, 4), dtype="float32")(deltas(level)) for level in hidden]
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
    x = layers.Conv2D(profile.box_channels, 1, activation="relu", kernel_initializer="he_normal", name="box_reduce")(
        pooled
    )
    x = layers.Flatten(name="box_flatten")(x)
    # This head has most of the weights that see single objects; without dropout it memorises small data sets.
    for number in (1, 2):
        x = layers.Dropout(profile.box_dropout, name=f"box_dropout{number}")(x)
        x = layers.Dense(profile.box_units, "relu", kernel_initializer="he_normal", name=f"box_fc{number}")(x)
    outputs = {
        "class_logits": layers.Dense(classes + 1, kernel_initializer=_small(), name="class_logits", dtype="float32")(x),
        "box_deltas": layers.Dense(4, kernel_initializer=_small(0.001), name="box_deltas", dtype="float32")(x),
    }
    return keras.Model(pooled, outputs, name="box_head")


def _mask_head(profile: Profile, classes: int) -> keras.Model:
    pooled = keras.Input((profile.mask_pool, profile.mask_pool, profile.fpn_channels), name="mask_features")
    x = pooled
    for index in range(profile.mask_convs):
        x = _conv3x3(profile.mask_channels, f"mask_conv{index + 1}")(x)
    x = layers.Conv2DTranspose(
        profile.mask_channels, 2, 2, activation="relu", kernel_initializer="he_normal", name="mask_upsample"
    )(x)
    x = layers.Conv2D(1, 1, kernel_initializer=_small(), name="mask_logits_map", dtype="float32")(x)
    logits = layers.Reshape((profile.mask_size, profile.mask_size), name="mask_logits", dtype="float32")(x)
    return keras.Model(pooled, {"mask_logits": logits}, name="mask_head")


def _conv3x3(channels: int, name: str) -> layers.Layer:
    return layers.Conv2D(channels, 3, padding="same", activation="relu", kernel_initializer="he_normal", name=name)


def _small(stddev: float = 0.01) -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=stddev)


_EDGE = (_trunk, _box_head, _mask_head)
_MATTERPORT = (matterport.trunk, matterport.box_head, matterport.mask_head)
_NETWORKS = {"efficientnet-lite0": _EDGE, "resnet50": _MATTERPORT, "resnet101": _MATTERPORT}
