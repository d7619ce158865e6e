"""Values that augmentation cannot have."""

import dataclasses

import pytest

from pumpseg_train.samples.config import AugmentationConfig

PROBABILITIES = [field.name for field in dataclasses.fields(AugmentationConfig) if field.name.endswith("_prob")]


@pytest.mark.parametrize("name", PROBABILITIES)
@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_a_probability_is_in_0_to_1(name, value):
    with pytest.raises(ValueError, match=rf"{name} = {value} is not in 0\.\.1"):
        AugmentationConfig(**{name: value})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"negative_prob": 0.5, "paste_prob": 0.4, "aux_prob": 0.2}, r"aux_prob = 1\.1 is more than 1"),
        ({"photo_scale": (2, 1)}, "photo_scale = 2, 1 must be above 0 and rise"),
        ({"pasted_size": (0, 1)}, "pasted_size = 0, 1 must be above 0 and rise"),
        ({"max_pasted": 0}, "max_pasted = 0 is less than 1"),
        ({"stretch": 0.5}, r"stretch = 0\.5 is less than 1"),
    ],
)
def test_impossible_values_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        AugmentationConfig(**values)
