"""Pumpkins: no holes in their masks, and skins and faces that turn with them."""

import cv2
import numpy as np

from pumpseg_train.synth.noise import Array
from pumpseg_train.synth.pumpkin import Pumpkin, make_pumpkin, random_light, render_pumpkin
from pumpseg_train.synth.scene import compose
from pumpseg_train.synth.solid import UPRIGHT, Light, Placement, rotation


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def standing(pumpkin: Pumpkin, turn: Array, pitch: float, scale: float) -> Placement:
    """Placement of a lone pumpkin of unit size on the ground, seen from `pitch` radians above the horizon."""
    sin, cos = float(np.sin(pitch)), float(np.cos(pitch))
    view = np.array([[1.0, 0.0, 0.0], [0.0, cos, sin], [0.0, -sin, cos]])
    lowest = float((pumpkin.support @ turn.T)[:, 1].min())
    middle = pumpkin.reach * scale + 2
    return Placement(np.array([0.0, -lowest, 0.0]), 1.0, turn, view, (middle, middle), scale)


def test_body_has_no_holes_in_its_mask():
    for seed in range(3):
        pumpkin = make_pumpkin(rng(seed))
        turn = rotation(np.array([1.0, 0.2, 0.4]), 0.7 * seed) @ UPRIGHT
        sprite = render_pumpkin(pumpkin, standing(pumpkin, turn, 0.4, 30.0), random_light(rng(seed)))
        outlines, _ = cv2.findContours(sprite.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        assert len(outlines) == 1
        filled = cv2.drawContours(np.zeros(sprite.mask.shape, np.uint8), outlines, -1, 1, cv2.FILLED)
        # A bent stem may close a loop with the body; a ray that missed it may not.
        assert filled.sum() - sprite.mask.sum() < 0.004 * filled.sum()


def test_turning_a_pumpkin_turns_its_skin():
    pumpkin = make_pumpkin(rng(1), carved=False)
    light = random_light(rng(1))

    def seen(angle: float) -> np.ndarray:
        turn = rotation(np.array([0.0, 1.0, 0.0]), angle) @ UPRIGHT
        sprite = render_pumpkin(pumpkin, standing(pumpkin, turn, 0.3, 24.0), light)
        canvas = np.zeros((160, 160, 3), np.float32)
        compose(canvas, [sprite], [1])
        return canvas

    still, full_turn, part_turn = seen(0.0), seen(2 * np.pi), seen(0.4)
    assert np.abs(still - full_turn).max() < 0.05
    assert np.abs(still - part_turn).mean() > 10 * np.abs(still - full_turn).mean()


def test_carved_face_looks_at_the_camera_when_upright():
    pumpkin = make_pumpkin(rng(2), carved=True, lit=True, classic=True)
    dark = np.zeros(3, np.float32)
    night = Light(np.array([0.0, 1.0, 0.0]), key=dark, sky=dark, bounce=dark, softness=0.5)

    def glowing(angle: float) -> float:
        turn = rotation(np.array([0.0, 1.0, 0.0]), angle) @ UPRIGHT
        sprite = render_pumpkin(pumpkin, standing(pumpkin, turn, 0.1, 24.0), night)
        return float(sprite.colour.sum())

    assert glowing(0.0) > 20 * glowing(np.pi)
