"""Batches for training, each a pure function of the seed and its number, so that a run can be resumed."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import cv2
import keras
import numpy as np

from pumpseg.cores import physical_cores
from pumpseg_train.data.augment import Material, Recipe, draw_sample
from pumpseg_train.data.scene import Scene
from pumpseg_train.labels import CROWD

MINI_MASK_SIZE = 56  # Matterport's Config.MINI_MASK_SHAPE
MOST_INSTANCES = 100
_FEWEST_THREADS = 2
_BATCHES_MORE_THAN_THREADS = 4


class Batches(keras.utils.PyDataset):
    """The `steps` batches of the epoch number `epoch`, augmented samples as `losses.Trainer` takes them.

    Samples are drawn ahead in threads, one for each core, so nothing is copied between processes: OpenCV, NumPy and the
    training step all let go of the interpreter lock. `waited` counts the seconds for which a batch was
    asked for before it was ready.
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
        super().__init__()
        self._draw = (material, recipe, size, fill)
        self._batch_size, self._steps, self._seed = batch_size, steps, seed
        threads = max(_FEWEST_THREADS, physical_cores())
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="samples")
        self._most_ahead = threads + _BATCHES_MORE_THAN_THREADS
        self._ahead: dict[int, Future[dict[str, np.ndarray]]] = {}
        self._epoch = 0
        self.waited = 0.0

    @property
    def epoch(self) -> int:
        return self._epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        if epoch != self._epoch:
            self._epoch = epoch
            for future in self._ahead.values():
                future.cancel()
            self._ahead.clear()

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> tuple[dict[str, np.ndarray]]:
        for number in range(step, min(step + self._most_ahead, self._steps)):
            if number not in self._ahead:
                self._ahead[number] = self._threads.submit(self._batch, self._epoch * self._steps + number)
        asked = time.perf_counter()
        batch = self._ahead.pop(step).result()
        self.waited += time.perf_counter() - asked
        return (batch,)

    def _batch(self, number: int) -> dict[str, np.ndarray]:
        first = number * self._batch_size
        return collate(
            [
                draw_sample(*self._draw, np.random.default_rng((self._seed, first + index)))
                for index in range(self._batch_size)
            ]
        )


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
