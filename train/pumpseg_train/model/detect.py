"""Inference: images to detections, with the same steps as the exported graph."""

from typing import Any

import keras
from keras import ops

from pumpseg_train.model import boxes as bx
from pumpseg_train.model.network import MaskRCNN
from pumpseg_train.model.profile import Profile
from pumpseg_train.model.proposals import propose, take_kept
from pumpseg_train.model.roi_align import pool_pyramid
from pumpseg_train.model.tighten_boxes import grow, tighten_to_masks


class Detector(keras.Model):
    """Runs a `MaskRCNN` on images (B, H, W, 3) RGB 0..255 and returns padded detections of each.

    {"boxes": (B, D, 4) input pixels, "scores": (B, D), "class_ids": (B, D) from 0, "masks":
    (B, D, M, M) probabilities inside the box, "valid": (B, D)} with D = `profile.max_detections`.
    The count is fixed because oneDNN fails on an empty batch in the mask head.
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
        pyramid = [outputs[name] for name in profile.levels[: profile.roi_levels]]

        proposals = propose(
            outputs,
            profile,
            size,
            candidates=profile.candidates,
            count=profile.proposals,
            score_threshold=profile.proposal_score_threshold,
        )
        if profile.compat.clip_to_content:
            window = bx.content_window(images, profile)
        else:
            window = ops.convert_to_tensor(bx.whole_image(profile, size))
        heads = self.box_head(pool_pyramid(pyramid, proposals.boxes, profile, profile.box_pool), training=False)
        probabilities = ops.softmax(heads["class_logits"])
        # Each proposal counts for its best class only.
        class_ids = ops.argmax(probabilities[..., 1:], axis=-1)
        rows = (-1, proposals.boxes.shape[1])
        boxes = bx.clip(_moved(proposals.boxes, heads["box_deltas"], class_ids, profile), window)
        class_ids = ops.reshape(class_ids, rows)
        scores = ops.reshape(ops.max(probabilities[..., 1:], axis=-1), rows)
        if profile.compat.joint_score:
            # P(object) P(class | object): Zhou et al. 2021 (arXiv 2103.07461), equation 1.
            scores = scores * proposals.scores
        else:
            scores = ops.where(scores > ops.reshape(probabilities[..., 0], rows), scores, 0.0)
        scores = scores * ops.cast(proposals.real, "float32")
        order = ops.argsort(-scores, axis=-1)
        boxes = ops.take_along_axis(boxes, ops.expand_dims(order, -1), axis=1)
        scores = ops.take_along_axis(scores, order, axis=1)
        class_ids = ops.take_along_axis(class_ids, order, axis=1)
        valid = ops.logical_and(scores >= profile.score_threshold, scores > 0)
        boxes, scores, class_ids, valid = _best(boxes, scores, class_ids, valid, profile)
        seen = bx.clip(grow(boxes, profile.mask_margin), window) if profile.mask_margin else boxes
        masks = self.mask_head(pool_pyramid(pyramid, seen, profile, profile.mask_pool), training=False)["mask_logits"]
        masks = ops.sigmoid(of_class(masks, ops.reshape(class_ids, (-1,)), profile))
        masks = ops.reshape(masks, (-1, profile.mask_size, profile.mask_size))
        if profile.mask_margin:
            tight, masks = tighten_to_masks(masks, ops.reshape(seen, (-1, 4)), ops.reshape(boxes, (-1, 4)))
            boxes = ops.reshape(tight, ops.shape(boxes))
        return {
            "boxes": boxes + ops.convert_to_tensor([0.0, 0.0, profile.compat.last_pixel, profile.compat.last_pixel]),
            "scores": scores,
            "class_ids": class_ids,
            "masks": ops.reshape(masks, (-1, boxes.shape[1], profile.mask_size, profile.mask_size)),
            "valid": valid,
        }


def _best(boxes: Any, scores: Any, class_ids: Any, valid: Any, profile: Profile) -> tuple[Any, Any, Any, Any]:
    """Boxes (B, N, 4), scores, class_ids and valid (B, N), by falling score, without what a better one suppresses; at
    most `profile.max_detections` of each image."""
    keep = bx.non_maximum_suppression(boxes, valid, profile.nms_threshold, rounds=profile.nms_rounds, groups=class_ids)
    boxes, valid = take_kept(boxes, keep, profile.max_detections)
    scores, class_ids = (take_kept(values, keep, profile.max_detections)[0] for values in (scores, class_ids))
    return boxes, scores, class_ids, valid


def _moved(boxes: Any, deltas: Any, class_ids: Any, profile: Profile) -> Any:
    """Boxes (B, R, 4) moved by the box head's output for the class (B * R,) of each."""
    deltas = of_class(deltas, class_ids, profile) * ops.convert_to_tensor(profile.box_deltas_std)
    return bx.decode(ops.reshape(deltas, (-1, boxes.shape[1], 4)), boxes)


def of_class(answers: Any, class_ids: Any, profile: Profile) -> Any:
    """A head's output for the class (from 0) of each RoI: (N, K + 1, ...), (N,) -> (N, ...)."""
    if profile.compat.class_agnostic:
        return answers
    index = ops.reshape(class_ids + 1, (-1, *[1] * (len(answers.shape) - 1)))
    return ops.squeeze(ops.take_along_axis(answers, index, axis=1), 1)
