"""Scenes padded and stacked as the trainer takes them."""

import numpy as np

from pumpseg_train.samples.batches import MAX_INSTANCES, MINI_MASK_SIZE, collate
from pumpseg_train.samples.scene import CROWD, Scene


def test_batches_are_what_the_trainer_takes(make_batches):
    (batch,) = make_batches()[0]
    assert {name: (array.shape, array.dtype.name) for name, array in batch.items()} == {
        "image": ((2, 96, 96, 3), "uint8"),
        "boxes": ((2, MAX_INSTANCES, 4), "float32"),
        "class_ids": ((2, MAX_INSTANCES), "int32"),
        "mini_masks": ((2, MAX_INSTANCES, MINI_MASK_SIZE, MINI_MASK_SIZE), "uint8"),
    }


def test_orange_stays_orange_in_a_batch(make_batches):
    colours = []
    for step in range(8):
        (batch,) = make_batches(steps=8)[step]
        for image, box, class_id in zip(batch["image"], batch["boxes"][:, 0], batch["class_ids"][:, 0], strict=True):
            if class_id > 0:
                x, y = ((box[:2] + box[2:]) / 2).astype(int)
                colours.append(image[y, x])
    red, green, blue = np.mean(colours, axis=0)
    assert len(colours) > 5
    assert red > green > blue


def scene_of(*rectangles, side=96):
    """(class_id, x, y, width, height) of each instance."""
    masks = []
    for _, x, y, width, height in rectangles:
        mask = np.zeros((side, side), np.uint8)
        mask[y : y + height, x : x + width] = 255
        masks.append(mask)
    areas = [float(width * height) for *_, width, height in rectangles]
    return Scene(np.zeros((side, side, 3), np.uint8), [row[0] for row in rectangles], masks, areas)


def test_collate_pads_and_puts_the_largest_first():
    batch = collate([scene_of((1, 5, 6, 10, 12), (2, 20, 30, 40, 20)), scene_of()])
    assert batch["class_ids"][0, :3].tolist() == [2, 1, 0]
    assert batch["boxes"][0, :3].tolist() == [[20, 30, 60, 50], [5, 6, 15, 18], [0, 0, 0, 0]]
    assert not batch["class_ids"][1].any()
    assert not batch["mini_masks"][1].any()
    assert (batch["mini_masks"][0, :2] == 255).all(), "a rectangle fills its own box"
    assert not batch["mini_masks"][0, 2:].any()


def test_mini_masks_are_stretched_over_the_box():
    scene = scene_of((1, 10, 20, 40, 30))
    scene.masks[0][20:50, 30:50] = 0
    scene.masks[0][20:22, 30:50] = 255  # so that the box stays what it was
    mini = collate([scene])["mini_masks"][0, 0]
    assert collate([scene])["boxes"][0, 0].tolist() == [10, 20, 50, 50]
    assert (mini[:, :28] == 255).all()
    assert (mini[8:, 29:] == 0).all()


def test_crowd_regions_have_a_box_but_no_mask():
    scene = scene_of((CROWD, 10, 20, 40, 30))
    batch = collate([scene])
    assert batch["class_ids"][0, 0] == -1
    assert batch["boxes"][0, 0].tolist() == [10, 20, 50, 50]
    assert not batch["mini_masks"].any()


def test_the_smallest_are_left_out_where_too_many_are():
    rectangles = [(1, 7 * (n % 13), 8 * (n // 13), 7, 8 if n else 7) for n in range(MAX_INSTANCES + 1)]
    batch = collate([scene_of(*rectangles)])
    assert (batch["class_ids"][0] == 1).all()
    assert [0, 0, 7, 7] not in batch["boxes"][0].tolist()
