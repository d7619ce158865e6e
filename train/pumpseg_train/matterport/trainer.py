"""The losses of mrcnn/model.py: the Keras model that trains with them."""

import dataclasses
from typing import Any

from keras import ops

from pumpseg_train.matterport.config import setting
from pumpseg_train.matterport.targets import mask_targets, roi_targets
from pumpseg_train.model import boxes as bx
from pumpseg_train.model.detect import of_class
from pumpseg_train.model.losses import Trainer, class_loss, mask_loss, objectness_loss, smooth_l1_loss
from pumpseg_train.model.network import MaskRCNN
from pumpseg_train.model.proposals import propose
from pumpseg_train.model.roi_align import pool_pyramid

LOSSES = ("rpn_class_loss", "rpn_bbox_loss", "mrcnn_class_loss", "mrcnn_bbox_loss", "mrcnn_mask_loss")


class MatterportTrainer(Trainer):
    """Maps a batch of `dataset.Batches` to mrcnn's five losses, of which `fit` minimises the weighted sum and L2.

    A batch is that of `losses.Trainer`, but with mini masks of 0 and 1, and with {"active": (B, K + 1), 1 for classes
    that the image's source labels, "anchor_match": int8 (B, A), "anchor_truth": int32 (B, A)} as
    `targets.anchor_targets` gives them.
    """

    def __init__(self, model: MaskRCNN, config: Any, seed: int = 0) -> None:
        given = setting(config, "LOSS_WEIGHTS")
        super().__init__(model, seed, {name: float(given.get(name, 1.0)) for name in LOSSES})
        profile = model.profile
        self._config = config
        self._learning = dataclasses.replace(profile, proposals=setting(config, "POST_NMS_ROIS_TRAINING"))
        self._train_norms = setting(config, "TRAIN_BN") is not False
        # Anchors are matched and their targets measured in pixels, all else between the first and the last one.
        self._ends = (0.0, 0.0, profile.compat.last_pixel, profile.compat.last_pixel)

    def call(self, batch: dict[str, Any], training: bool = True) -> dict[str, Any]:
        profile, ends = self._learning, ops.convert_to_tensor(self._ends)
        size = batch["image"].shape[1:3]
        norms = training and self._train_norms
        outputs = self.trunk(ops.cast(batch["image"], "float32"), training=norms)
        pyramid = [outputs[name] for name in profile.levels[: profile.roi_levels]]

        anchors = ops.convert_to_tensor(bx.anchors(profile, size)) + ends
        match = batch["anchor_match"]
        positive = match > 0
        matched = ops.take_along_axis(batch["boxes"], ops.expand_dims(batch["anchor_truth"], -1), axis=1)
        wanted = bx.encode(matched, anchors) / ops.convert_to_tensor(profile.anchor_deltas_std)
        losses = {
            "rpn_class_loss": objectness_loss(outputs["objectness"], positive, match < 0),
            "rpn_bbox_loss": smooth_l1_loss(outputs["anchor_deltas"], wanted, positive),
        }

        # Proposals are no way for gradients; to say so first saves what their NMS would have to remember.
        answers = {name: ops.stop_gradient(outputs[name]) for name in ("objectness", "anchor_deltas")}
        proposals = propose(answers, profile, size, candidates=profile.candidates, count=profile.proposals)
        rois = roi_targets(
            proposals.boxes,
            proposals.real,
            batch["boxes"] - ends,
            batch["class_ids"],
            self.seed_generator,
            samples=setting(self._config, "TRAIN_ROIS_PER_IMAGE"),
            positive_ratio=setting(self._config, "ROI_POSITIVE_RATIO"),
        )
        heads = self.box_head(pool_pyramid(pyramid, rois.boxes, profile, profile.box_pool), training=norms)
        losses["mrcnn_class_loss"] = self._class_loss(heads["class_logits"], rois.class_ids, batch["active"])

        count = rois.truth_boxes.shape[1]
        boxes, labels = rois.boxes[:, :count], ops.reshape(rois.class_ids[:, :count], (-1,))
        own = ops.maximum(labels - 1, 0)
        deltas = ops.reshape(heads["box_deltas"], (-1, rois.boxes.shape[1], *heads["box_deltas"].shape[1:]))[:, :count]
        deltas = of_class(ops.reshape(deltas, (-1, *deltas.shape[2:])), own, profile)
        wanted = bx.encode(rois.truth_boxes, boxes) / ops.convert_to_tensor(profile.box_deltas_std)
        losses["mrcnn_bbox_loss"] = smooth_l1_loss(deltas, ops.reshape(wanted, (-1, 4)), labels > 0)

        masks = ops.cast(batch["mini_masks"], "float32")
        wanted = mask_targets(boxes, rois.truth_boxes, rois.truth_index, masks, profile.mask_size)
        logits = self.mask_head(pool_pyramid(pyramid, boxes, profile, profile.mask_pool), training=norms)["mask_logits"]
        logits = of_class(logits, own, profile)
        side = profile.mask_size
        losses["mrcnn_mask_loss"] = mask_loss(
            ops.reshape(logits, (-1, side, side)), ops.reshape(wanted, (-1, side, side)), labels
        )
        return losses

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        return loss + setting(self._config, "WEIGHT_DECAY") * self._weight_norm()

    def _weight_norm(self) -> Any:
        """Sum over the trained kernels and biases of their mean squares: mrcnn divides L2 by each one's size."""
        kept = [weight for weight in self.trainable_variables if weight.name not in ("gamma", "beta")]
        return sum(ops.mean(ops.square(weight)) for weight in kept)

    @staticmethod
    def _class_loss(logits: Any, labels: Any, active: Any) -> Any:
        """Cross-entropy of the RoIs whose likeliest class is one that the image's source labels."""
        count = labels.shape[1]
        guesses = ops.reshape(ops.argmax(logits, axis=-1), (-1, count))
        counts = ops.take_along_axis(active, guesses, axis=1) > 0
        return class_loss(logits, ops.reshape(ops.where(counts, labels, -1), (-1,)))
