"""Batches for training, each a pure function of the seed and its number, so that a run can be resumed."""

from typing import Any

import cv2
import keras
import numpy as np

from pumpseg_train.data.augment import Material, Recipe, draw_sample
from pumpseg_train.data.scene import CROWD, Scene

MINI_MASK_SIZE = 56  # Matterport's Config.MINI_MASK_SHAPE
MOST_INSTANCES = 100


class Batches(keras.utils.PyDataset):
    """The `steps` batches of the epoch number `epoch`, augmented samples as `losses.Trainer` takes them.

    Samples are drawn in threads: OpenCV and the training step both let go of the interpreter lock.
    """

    def __init__(
        self,
        material: Material,
        recipe: Recipe,
        *,
        size: int,
        fill: int,
        batch_size: int,
        steps: int,
        seed: int,
    ) -> None:
        super().__init__(workers=2, max_queue_size=6)
        self._draw = (material, recipe, size, fill)
        self._batch_size, self._steps, self._seed = batch_size, steps, seed
        self.epoch = 0

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> tuple[dict[str, np.ndarray]]:
        first = (self.epoch * self._steps + step) * self._batch_size
        scenes = [
            draw_sample(*self._draw, np.random.default_rng((self._seed, first + index)))
            for index in range(self._batch_size)
        ]
        return (collate(scenes),)


def collate(scenes: list[Scene]) -> dict[str, np.ndarray]:
    """Stacks scenes of one size into the padded arrays of `losses.Trainer`."""
    batch: dict[str, Any] = {
        "image": np.stack([scene.image for scene in scenes]),
        "boxes": np.zeros((len(scenes), MOST_INSTANCES, 4), np.float32),
        "class_ids": np.zeros((len(scenes), MOST_INSTANCES), np.int32),
        "mini_masks": np.zeros((len(scenes), MOST_INSTANCES, MINI_MASK_SIZE, MINI_MASK_SIZE), np.uint8),
    }
    for row, scene in enumerate(scenes):
        # The largest first: should there be more than fit, the smallest are left out.
        instances = sorted(scene.instances(), key=lambda instance: -instance.mask.size)[:MOST_INSTANCES]
        for column, instance in enumerate(instances):
            height, width = instance.mask.shape
            batch["boxes"][row, column] = (
                instance.x,
                instance.y,
                instance.x + width,
                instance.y + height,
            )
            batch["class_ids"][row, column] = instance.class_id
            if instance.class_id != CROWD:
                batch["mini_masks"][row, column] = cv2.resize(
                    instance.mask, (MINI_MASK_SIZE, MINI_MASK_SIZE), interpolation=cv2.INTER_AREA
                )
    return batch
