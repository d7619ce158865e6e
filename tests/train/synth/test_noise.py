"""Noise that meets itself, and colours to linear light and back."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pumpseg_train.synth.noise import decode_srgb, encode_srgb, layered_noise, linear, smoothstep


@given(*[st.integers(0, 255)] * 3)
def test_linear_light_and_back(red, green, blue):
    assert np.abs(encode_srgb(linear(red, green, blue)).astype(int) - [blue, green, red]).max() <= 1


def test_wrapped_noise_meets_itself():
    noise = layered_noise(np.random.default_rng(5), (16, 256), (2, 5), 2, wrap_x=True)
    step_inside = np.abs(np.diff(noise, axis=1)).max()
    assert np.abs(noise[:, 0] - noise[:, -1]).max() <= 1.5 * step_inside


def test_decoding_inverts_encoding():
    values = np.arange(256, dtype=np.uint8)
    assert np.abs(encode_srgb(decode_srgb(values)).astype(int) - values).max() <= 1


def test_smoothstep_rises_from_0_to_1_and_falls_where_low_is_above_high():
    values = np.array([-1.0, 0.0, 0.5, 1.0, 2.0])
    assert smoothstep(0, 1, values).tolist() == [0, 0, 0.5, 1, 1]
    assert smoothstep(1, 0, values).tolist() == [1, 1, 0.5, 0, 0]
