"""Learning rates by layer and batch, and what decays."""

import dataclasses

import keras
import numpy as np

from pumpseg_train.model.network import build_mask_rcnn
from pumpseg_train.training.optimizer import LayerwiseAdamW, learning_rate, make_optimizer


def test_the_learning_rate_falls_over_the_whole_run_however_many_batches_make_an_update(tiny_settings):
    rates = []
    for accumulate in (1, 4):
        settings = dataclasses.replace(tiny_settings, accumulate=accumulate, epochs=10, steps=10, warmup_steps=0)
        schedule = learning_rate(settings)  # Keras calls it with the number of batches
        rates.append([float(schedule(batch)) for batch in (0, 50, 99)])
    assert rates[0] == rates[1]
    assert rates[0][0] > 10 * rates[0][2]


def test_learning_rate_factors_scale_the_step():
    variables = [keras.Variable(np.ones(3, np.float32), name=name) for name in ("slow", "fast")]
    optimizer = LayerwiseAdamW({variables[0].path: 0.25}, learning_rate=0.1, weight_decay=0.0)
    optimizer.build(variables)
    optimizer.apply([np.full(3, 2.0, np.float32)] * 2, variables)
    slow, fast = (1 - np.array(variable) for variable in variables)
    assert np.allclose(fast, 0.1, rtol=1e-3)
    assert np.allclose(slow, 0.025, rtol=1e-3)


def test_the_backbone_of_a_run_learns_slower_than_the_rest(tiny_training):
    optimizer = tiny_training.trainer.optimizer
    by_path = dict(zip((v.path for v in tiny_training.trainer.trainable_variables), optimizer.factors, strict=True))
    slow = {path for path, factor in by_path.items() if factor == 0.25}
    assert slow == {path for path in by_path if path.split("/")[0].startswith("block")}
    assert len(slow) > 20
    assert {factor for path, factor in by_path.items() if path not in slow} == {1.0}


def test_weight_decay_spares_biases(tiny_settings):
    settings = dataclasses.replace(tiny_settings, learning_rate=1.0, weight_decay=0.5)
    optimizer = make_optimizer(settings, build_mask_rcnn(tiny_settings.to_profile(), ("pumpkin",)))
    variables = [keras.Variable(np.ones(3, np.float32), name=name) for name in ("kernel", "bias", "gamma", "beta")]
    optimizer.build(variables)
    optimizer.apply([np.zeros(3, np.float32)] * 4, variables)
    kernel, *others = (np.array(variable) for variable in variables)
    assert (kernel < 1).all()
    assert all((other == 1).all() for other in others)
