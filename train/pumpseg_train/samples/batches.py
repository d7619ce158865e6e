"""One batch of training samples: drawn, padded and stacked, in this process or in a worker process."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from pumpseg_train.dataset.class_ids import CROWD
from pumpseg_train.samples.augment import draw_sample
from pumpseg_train.samples.config import AugmentationConfig
from pumpseg_train.samples.scene import Scene
from pumpseg_train.samples.sources import SampleSources

MINI_MASK_SIZE = 56  # Matterport's Config.MINI_MASK_SHAPE
MAX_INSTANCES = 100


@dataclass(frozen=True)
class BatchSampler:
    """What batches are drawn from, `batch_size` samples of `size` pixels each; see `augment.draw_sample`."""

    sources: SampleSources
    augmentation: AugmentationConfig
    size: int
    fill: int
    batch_size: int
    seed: int

    def batch(self, number: int) -> dict[str, np.ndarray]:
        """The batch of that number; it depends on the seed only."""
        first = number * self.batch_size
        return collate(
            [
                draw_sample(
                    self.sources,
                    self.augmentation,
                    self.size,
                    self.fill,
                    np.random.default_rng((self.seed, first + index)),
                )
                for index in range(self.batch_size)
            ]
        )


_sampler: BatchSampler | None = None


def set_sampler(sampler: BatchSampler) -> None:
    """Sets what `batch_of_process` draws from in this worker process."""
    global _sampler
    _sampler = sampler


def batch_of_process(number: int) -> dict[str, np.ndarray]:
    """The batch of that number, after `set_sampler`."""
    assert _sampler is not None
    return _sampler.batch(number)


def collate(scenes: list[Scene]) -> dict[str, np.ndarray]:
    """Stacks scenes of one size into the padded arrays of `losses.Trainer`."""
    batch: dict[str, Any] = {
        "image": np.stack([scene.image for scene in scenes]),
        "boxes": np.zeros((len(scenes), MAX_INSTANCES, 4), np.float32),
        "class_ids": np.zeros((len(scenes), MAX_INSTANCES), np.int32),
        "mini_masks": np.zeros((len(scenes), MAX_INSTANCES, MINI_MASK_SIZE, MINI_MASK_SIZE), np.uint8),
    }
    for row, scene in enumerate(scenes):
        # The largest first: the smallest are dropped if there are too many.
        instances = sorted(scene.instances(), key=lambda instance: -instance.mask.size)[:MAX_INSTANCES]
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
