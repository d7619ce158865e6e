"""AdamW with a cosine schedule, a lower learning rate for the backbone, and averaged weights."""

from collections.abc import Mapping
from typing import Any

import keras

from pumpseg_train.model.network import MaskRCNN
from pumpseg_train.training.run import Settings


class LayerwiseAdamW(keras.optimizers.AdamW):
    """AdamW with a learning rate factor for some variables, by path."""

    def __init__(self, factors: Mapping[str, float], **options: Any) -> None:
        super().__init__(**options)
        self._factors_by_path = dict(factors)
        self.factors: list[float] = []  # in the order of the variables

    def build(self, variables: list[keras.Variable]) -> None:
        super().build(variables)
        self.factors = [self._factors_by_path.get(variable.path, 1.0) for variable in variables]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        # A backend's own variable has no path: Keras finds it by its index, as it does for the other slots.
        factor = self.factors[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * factor)


def learning_rate(settings: Settings) -> keras.optimizers.schedules.LearningRateSchedule:
    """Warm-up and cosine decay over the batches of a run, including those that only accumulate gradients."""
    return keras.optimizers.schedules.CosineDecay(
        settings.learning_rate / 100,
        max(1, settings.epochs * settings.steps - settings.warmup_steps),
        alpha=0.01,
        warmup_target=settings.learning_rate,
        warmup_steps=settings.warmup_steps,
    )


def make_optimizer(settings: Settings, model: MaskRCNN) -> LayerwiseAdamW:
    """The optimizer of a run of `settings`."""
    backbone = [
        variable.path
        for layer in model.trunk.layers
        if layer.name.startswith(("stem", "block"))
        for variable in layer.trainable_variables
    ]
    optimizer = LayerwiseAdamW(
        dict.fromkeys(backbone, settings.backbone_rate),
        learning_rate=learning_rate(settings),
        weight_decay=settings.weight_decay,
        global_clipnorm=settings.clip_norm,
        use_ema=True,
        ema_momentum=1 - 1 / max(1.0, settings.averaged_share * settings.epochs * settings.steps),
        ema_overwrite_frequency=None,
        gradient_accumulation_steps=settings.accumulate if settings.accumulate > 1 else None,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
