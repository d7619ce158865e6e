"""Losses against sums done by hand, and a trainer that learns."""

import keras
import numpy as np
import pytest

from pumpseg_train.dataset.class_ids import OTHER
from pumpseg_train.model import losses as losses_module
from pumpseg_train.model.losses import Trainer, anchor_box_loss, box_loss, class_loss, mask_loss, objectness_loss

YES, NO = True, False
NAN = np.nan


def array(values):
    return np.array(values, np.float32)


def test_objectness_is_the_mean_cross_entropy_of_the_sampled_anchors():
    loss = objectness_loss(array([[0, 2, -1, NAN]]), np.array([[YES, NO, NO, NO]]), np.array([[NO, YES, NO, NO]]))
    assert float(loss) == pytest.approx((np.log(2) + np.log(1 + np.exp(2))) / 2, rel=1e-6)


def test_objectness_stays_finite_for_large_logits():
    loss = objectness_loss(array([[500, -500]]), np.array([[NO, YES]]), np.array([[YES, NO]]))
    assert float(loss) == pytest.approx(500)


def test_anchor_box_loss_is_smooth_l1_with_beta_one_ninth():
    anchors = array([[0, 0, 10, 10], [0, 0, 10, 10]])
    deltas = array([[[0.5, 0, 0, -0.05], [NAN] * 4]])
    loss = anchor_box_loss(deltas, anchors, anchors[None], np.array([[YES, NO]]))
    assert float(loss) == pytest.approx((0.5 - 1 / 18) + 0.5 * 0.05**2 * 9, rel=1e-5)


def test_class_loss_is_softmax_cross_entropy_without_what_is_left_out():
    logits = array([[0, np.log(3)], [0, np.log(3)], [NAN, NAN]])
    assert float(class_loss(logits, np.array([1, OTHER, -1]))) == float(class_loss(logits, np.array([1, 0, -1])))
    assert float(class_loss(logits, np.array([1, 0, -1]))) == pytest.approx((-np.log(0.75) - np.log(0.25)) / 2)


def test_box_loss_is_one_minus_generalized_iou_of_positive_rois():
    boxes = array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [NAN] * 4])
    wanted = array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 0, 30, 10], [0, 0, 1, 1]])
    loss = box_loss(boxes, wanted, np.array([1, 2, 1, 0]))
    assert float(loss) == pytest.approx((0 + 2 / 3 + 4 / 3) / 3, rel=1e-5)


def test_mask_loss_is_cross_entropy_of_positive_rois():
    logits = np.zeros((3, 4, 4), np.float32)
    logits[1] = 1
    logits[2] = NAN
    wanted = np.zeros((3, 4, 4), np.float32)
    wanted[1] = 1
    loss = mask_loss(logits, wanted, np.array([1, 3, -1]))
    assert float(loss) == pytest.approx((np.log(2) + np.log(1 + np.exp(-1))) / 2, rel=1e-5)


def test_losses_of_nothing_are_zero():
    none = np.array([[NO, NO]])
    assert float(objectness_loss(array([[NAN, 3]]), none, none)) == 0
    boxes = array([[0, 0, 10, 10], [0, 0, 10, 10]])
    assert float(anchor_box_loss(array([[[NAN] * 4, [1] * 4]]), boxes, boxes[None], none)) == 0
    assert float(class_loss(array([[1, 2], [3, 4]]), np.array([-1, -1]))) == 0
    assert float(box_loss(boxes, boxes + 5, np.array([0, -1]))) == 0
    assert float(mask_loss(np.ones((2, 4, 4), np.float32), np.ones((2, 4, 4), np.float32), np.array([0, -1]))) == 0


def batch_of(images, fruits=()):
    """A batch for the trainer with `fruits` (image, class_id, x1, y1, x2, y2), all of them full boxes."""
    batch = {
        "image": images,
        "boxes": np.zeros((len(images), 10, 4), np.float32),
        "class_ids": np.zeros((len(images), 10), np.int32),
        "mini_masks": np.zeros((len(images), 10, 56, 56), np.uint8),
    }
    for column, (row, class_id, *box) in enumerate(fruits):
        batch["boxes"][row, column] = box
        batch["class_ids"][row, column] = class_id
        batch["mini_masks"][row, column] = 255
    return batch


@pytest.fixture(scope="module")
def pictures():
    """Two noisy blue pictures with an orange and a red rectangle in the first."""
    images = np.random.default_rng(0).integers(0, 40, (2, 96, 96, 3)).astype(np.uint8)
    images[..., 2] += 160
    images[0, 10:60, 20:70] = (230, 120, 20)
    images[0, 66:90, 66:92] = (220, 20, 20)
    return batch_of(images, [(0, 1, 20, 10, 70, 60), (0, 2, 66, 66, 92, 90)])


def test_a_batch_without_instances_has_finite_losses(tiny_model, pictures):
    losses = Trainer(tiny_model)(batch_of(pictures["image"]))
    values = {name: float(value) for name, value in losses.items()}
    assert set(values) == {"rpn_class", "rpn_box", "class", "box", "mask"}
    assert values["rpn_box"] == values["box"] == values["mask"] == 0
    assert values["rpn_class"] == pytest.approx(np.log(2), rel=0.2)
    assert values["class"] == pytest.approx(np.log(3), rel=0.3)


def test_a_batch_of_crowd_regions_only_has_no_positive_losses(tiny_model, pictures):
    losses = Trainer(tiny_model)(batch_of(pictures["image"], [(0, -1, 0, 0, 96, 96), (1, -1, 0, 0, 50, 50)]))
    assert float(losses["rpn_box"]) == float(losses["box"]) == float(losses["mask"]) == 0
    assert np.isfinite([float(value) for value in losses.values()]).all()


def test_a_few_steps_on_one_batch_lower_every_loss(tiny_model, pictures, step_by_step):
    trainer = Trainer(tiny_model)
    start = [np.array(variable) for variable in trainer.trainable_variables]
    try:
        trainer.compile(keras.optimizers.Adam(2e-3, global_clipnorm=10.0), jit_compile=False)
        losses = []
        for _ in range(8):
            trainer.reset_metrics()  # they are means over the steps
            losses.append(trainer.train_on_batch(pictures, return_dict=True))
        first, last = losses[0], losses[-1]
        assert last["loss"] < 0.8 * first["loss"]
        for name in ("rpn_class", "rpn_box", "class", "mask"):
            assert last[name] < first[name]
    finally:
        for variable, value in zip(trainer.trainable_variables, start, strict=True):
            variable.assign(value)


def test_dropout_is_for_the_classes_only(tiny_model, pictures):
    dropouts = [layer for layer in tiny_model.box_head.layers if isinstance(layer, keras.layers.Dropout)]
    states = [np.array(layer.seed_generator.state) for layer in dropouts]

    def losses(seed):
        trainer = Trainer(tiny_model, seed=0)
        for layer in dropouts:
            layer.seed_generator.state.assign([seed, 0])
        return {name: float(value) for name, value in trainer(pictures, training=True).items()}

    try:
        first, second = losses(1), losses(2)
    finally:
        for layer, state in zip(dropouts, states, strict=True):
            layer.seed_generator.state.assign(state)
    assert dropouts
    assert first["box"] == second["box"] > 0
    assert first["class"] != second["class"]


def test_masks_are_learnt_beyond_their_boxes(tiny_model, pictures, monkeypatch):
    pooled = {}
    pool_pyramid = losses_module.pool_pyramid

    def noting(pyramid, boxes, profile, pool):
        pooled[pool] = np.array(boxes)
        return pool_pyramid(pyramid, boxes, profile, pool)

    monkeypatch.setattr(losses_module, "pool_pyramid", noting)
    Trainer(tiny_model)(pictures)
    profile = tiny_model.profile
    seen = pooled[profile.mask_pool]
    boxes = pooled[profile.box_pool][:, : seen.shape[1]]
    more = profile.mask_margin * (boxes[..., 2:] - boxes[..., :2])
    wanted = np.clip(np.concatenate([boxes[..., :2] - more, boxes[..., 2:] + more], axis=-1), 0, 96)
    assert profile.mask_margin > 0
    np.testing.assert_allclose(seen, wanted, atol=1e-4)
