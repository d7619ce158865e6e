"""Inference: images to detections, with the very steps that the exported graph takes."""

from typing import Any

import keras
from keras import ops

from pumpseg_train.model import boxes as bx
from pumpseg_train.model.network import MaskRCNN
from pumpseg_train.model.proposals import propose, take_kept
from pumpseg_train.model.roi_align import pool_pyramid


class Detector(keras.Model):
    """Runs a `MaskRCNN` on images (B, H, W, 3) RGB 0..255 and returns padded detections of each.

    {"boxes": (B, D, 4) input pixels, "scores": (B, D), "class_ids": (B, D) from 0, "masks":
    (B, D, M, M) probabilities inside the box, "valid": (B, D)} with D = `profile.max_detections`.
    The count is fixed because oneDNN stops on an empty batch in the mask head.
    """

    def __init__(self, model: MaskRCNN) -> None:
        super().__init__(name="detector")
        self.mask_rcnn = model
        self.trunk, self.box_head, self.mask_head = model.trunk, model.box_head, model.mask_head
        self.built = True  # as its parts are

    def call(self, images: Any) -> dict[str, Any]:
        profile = self.mask_rcnn.profile
        size = images.shape[1:3]
        images = ops.cast(images, "float32")
        outputs = self.trunk(images, training=False)
        pyramid = [outputs[name] for name in ("p3", "p4", "p5")]

        proposals = propose(
            outputs,
            profile,
            size,
            candidates=profile.candidates,
            count=profile.proposals,
            score_threshold=profile.proposal_score_threshold,
        )
        heads = self.box_head(pool_pyramid(pyramid, proposals.boxes, profile, profile.box_pool), training=False)
        rows = (-1, proposals.boxes.shape[1])
        probabilities = ops.reshape(ops.softmax(heads["class_logits"]), (*rows, len(self.mask_rcnn.classes) + 1))
        deltas = ops.reshape(heads["box_deltas"], (*rows, 4)) * ops.convert_to_tensor(profile.box_deltas_std)
        boxes = bx.clip(bx.decode(deltas, proposals.boxes), size)

        # Each proposal speaks for its best class; classes are kept apart in NMS by moving them apart.
        class_ids = ops.argmax(probabilities[..., 1:], axis=-1)
        # P(object) P(class | object): Zhou et al. 2021 (arXiv 2103.07461), equation 1.
        scores = ops.max(probabilities[..., 1:], axis=-1) * proposals.scores
        scores = scores * ops.cast(proposals.real, "float32")
        order = ops.argsort(-scores, axis=-1)
        boxes = ops.take_along_axis(boxes, ops.expand_dims(order, -1), axis=1)
        scores = ops.take_along_axis(scores, order, axis=1)
        class_ids = ops.take_along_axis(class_ids, order, axis=1)
        apart = ops.expand_dims(ops.cast(class_ids, "float32") * (2.0 * max(size)), -1)
        keep = bx.non_maximum_suppression(boxes + apart, scores >= profile.score_threshold, profile.nms_threshold)
        count = profile.max_detections
        boxes, valid = take_kept(boxes, keep, count)
        masks = self.mask_head(pool_pyramid(pyramid, boxes, profile, profile.mask_pool), training=False)["mask_logits"]
        return {
            "boxes": boxes,
            "scores": take_kept(scores, keep, count)[0],
            "class_ids": take_kept(class_ids, keep, count)[0],
            "masks": ops.reshape(ops.sigmoid(masks), (-1, boxes.shape[1], *masks.shape[1:])),
            "valid": valid,
        }
