"""mrcnn's losses of a batch, and its L2."""

import numpy as np
import pytest

from pumpseg_train.matterport.config import to_profile
from pumpseg_train.matterport.dataset import Batches
from pumpseg_train.matterport.trainer import LOSSES, MatterportTrainer
from pumpseg_train.model.network import build_mask_rcnn


@pytest.fixture(scope="module")
def trained(tiny_config, balloons, load_balloons):
    """A trainer of `tiny_config`, and a batch for it."""
    config = tiny_config()
    profile = to_profile(config)
    (batch,) = Batches(load_balloons(balloons, "train"), config, profile, steps=1)[0]
    return MatterportTrainer(build_mask_rcnn(profile, ("balloon",)), config), batch


def test_a_batch_has_the_five_losses(trained):
    trainer, batch = trained
    losses = {name: float(value) for name, value in trainer(batch).items()}
    assert tuple(losses) == LOSSES
    assert all(np.isfinite(value) and value > 0 for name, value in losses.items() if name.startswith("rpn"))


def test_l2_is_the_mean_square_of_each_weight_and_spares_norms(trained, tiny_config):
    trainer, _ = trained
    none = dict.fromkeys(LOSSES, 0.0)
    weights = [np.array(w) for w in trainer.trainable_variables if w.name not in ("gamma", "beta")]
    wanted = tiny_config.WEIGHT_DECAY * sum(np.square(weight).mean() for weight in weights)
    assert float(trainer.compute_loss(y_pred=none)) == pytest.approx(wanted, rel=1e-4)
