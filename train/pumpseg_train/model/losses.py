"""The five losses of Mask R-CNN and the Keras model that trains with them."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from pumpseg_train.model import boxes as bx
from pumpseg_train.model.network import MaskRCNN
from pumpseg_train.model.proposals import propose
from pumpseg_train.model.roi_align import pool_pyramid
from pumpseg_train.model.targets import IGNORED, anchor_targets, has_outline, mask_targets, roi_targets
from pumpseg_train.model.tighten_boxes import grow

_WEIGHTS = {"rpn_class": 1.0, "rpn_box": 1.0, "class": 1.0, "box": 2.0, "mask": 1.0}
# Of one image:
_CANDIDATES, _PROPOSALS = 600, 200
_ROIS, _POSITIVE_ROIS, _MASK_ROIS = 96, 32, 16


class Trainer(keras.Model):
    """Maps a batch to the five losses; `fit` minimises their weighted sum.

    A batch is {"image": uint8 (B, H, W, 3) RGB, "boxes": float32 (B, G, 4), "class_ids": int32 (B, G),
    "mini_masks": uint8 (B, G, S, S), 255 inside}, padded and marked as `targets` says.
    """

    def __init__(self, model: MaskRCNN, seed: int = 0, weights: Mapping[str, float] = _WEIGHTS) -> None:
        super().__init__(name="trainer")
        self.mask_rcnn = model
        self.trunk, self.box_head, self.mask_head = model.trunk, model.box_head, model.mask_head
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.loss_weights = dict(weights)
        self.loss_means = {name: keras.metrics.Mean(name=name) for name in weights}
        self.built = True  # as its parts are

    def call(self, batch: dict[str, Any], training: bool = True) -> dict[str, Any]:
        profile, seed = self.mask_rcnn.profile, self.seed_generator
        size = batch["image"].shape[1:3]
        truth_boxes, class_ids = batch["boxes"], batch["class_ids"]
        outputs = self.trunk(ops.cast(batch["image"], "float32"), training=training)
        pyramid = [outputs[name] for name in profile.levels]

        anchors = ops.convert_to_tensor(bx.anchors(profile, size))
        positive, negative, matched = anchor_targets(anchors, truth_boxes, class_ids, seed)
        losses = {
            "rpn_class": objectness_loss(outputs["objectness"], positive, negative),
            "rpn_box": anchor_box_loss(outputs["anchor_deltas"], anchors, matched, positive),
        }

        proposals = propose(outputs, profile, size, candidates=_CANDIDATES, count=_PROPOSALS)
        rois = roi_targets(
            ops.stop_gradient(proposals.boxes),
            proposals.real,
            truth_boxes,
            class_ids,
            seed,
            samples=_ROIS,
            positives=_POSITIVE_ROIS,
        )
        features = pool_pyramid(pyramid, rois.boxes, profile, profile.box_pool)
        # Dropout keeps the class head from memorising; it would leave the boxes loose.
        heads = {
            "class_logits": self.box_head(features, training=training)["class_logits"],
            "box_deltas": self.box_head(features, training=False)["box_deltas"],
        }
        labels = ops.reshape(rois.class_ids, (-1,))
        deltas = heads["box_deltas"] * ops.convert_to_tensor(profile.box_deltas_std)
        boxes = bx.decode(deltas, ops.reshape(rois.boxes, (-1, 4)))
        losses["class"] = class_loss(heads["class_logits"], labels)
        losses["box"] = box_loss(boxes, ops.reshape(rois.truth_boxes, (-1, 4)), labels)

        # Positives come first, so the first rows are the ones with a mask to learn.
        mask_rois, mask_labels = rois.boxes[:, :_MASK_ROIS], rois.class_ids[:, :_MASK_ROIS]
        mask_rois = bx.clip(grow(mask_rois, profile.mask_margin), ops.convert_to_tensor(bx.whole_image(profile, size)))
        wanted = mask_targets(
            mask_rois,
            rois.truth_boxes[:, :_MASK_ROIS],
            rois.truth_index[:, :_MASK_ROIS],
            ops.cast(batch["mini_masks"], "float32") / 255,
            profile.mask_size,
        )
        logits = self.mask_head(pool_pyramid(pyramid, mask_rois, profile, profile.mask_pool), training=training)[
            "mask_logits"
        ]
        losses["mask"] = mask_loss(logits, ops.reshape(wanted, ops.shape(logits)), ops.reshape(mask_labels, (-1,)))
        return losses

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        for name, value in y_pred.items():
            self.loss_means[name].update_state(value)
        return sum(self.loss_weights[name] * value for name, value in y_pred.items())


def objectness_loss(logits: Any, positive: Any, negative: Any) -> Any:
    """Mean binary cross-entropy of the sampled anchors: logits (B, A) against `positive`."""
    loss = _cross_entropy(logits, positive)
    return _mean(loss, ops.logical_or(positive, negative))


def anchor_box_loss(deltas: Any, anchors: Any, matched: Any, positive: Any) -> Any:
    """Smooth L1 (beta 1/9) of the deltas (B, A, 4) of positive anchors, summed over coordinates."""
    return 4 * smooth_l1_loss(deltas, bx.encode(matched, anchors), positive, beta=1 / 9)


def smooth_l1_loss(given: Any, wanted: Any, chosen: Any, beta: float = 1.0) -> Any:
    """Mean smooth L1 (Fast R-CNN, equation 3) of the chosen rows of (..., 4), over coordinates as well."""
    error = ops.abs(given - wanted)
    loss = ops.where(error < beta, 0.5 * error**2 / beta, error - 0.5 * beta)
    return _mean(ops.mean(loss, axis=-1), chosen)


def class_loss(logits: Any, labels: Any) -> Any:
    """Mean softmax cross-entropy of RoI logits (N, K + 1) against labels (N,); OTHER is background."""
    used = labels != IGNORED
    onehot = ops.one_hot(ops.maximum(labels, 0), logits.shape[-1])
    return _mean(-ops.sum(onehot * ops.log_softmax(logits), axis=-1), used)


def box_loss(boxes: Any, truth_boxes: Any, labels: Any) -> Any:
    """Mean 1 - GIoU of the decoded boxes (N, 4) of positive RoIs (Rezatofighi et al. 2019).

    Smooth L1 on deltas left boxes loose (a perfect proposal was returned at IoU 0.83).
    """
    return _mean(1 - bx.generalized_iou(boxes, truth_boxes), has_outline(labels))


def mask_loss(logits: Any, wanted: Any, labels: Any) -> Any:
    """Mean binary cross-entropy of mask logits (N, M, M) of positive RoIs (Mask R-CNN, section 3)."""
    return _mean(ops.mean(_cross_entropy(logits, wanted), axis=(1, 2)), has_outline(labels))


def _cross_entropy(logits: Any, wanted: Any) -> Any:
    wanted = ops.cast(wanted, logits.dtype)
    return ops.maximum(logits, 0) - logits * wanted + ops.log1p(ops.exp(-ops.abs(logits)))


def _mean(values: Any, chosen: Any) -> Any:
    """Mean of the chosen values, 0 when there are none; non-finite ones of the others do not spread."""
    values = ops.where(chosen, values, ops.zeros_like(values))
    return ops.sum(values) / ops.maximum(ops.sum(ops.cast(chosen, values.dtype)), 1)
