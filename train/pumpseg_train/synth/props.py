"""Things that are no pumpkins: smooth balls, oranges, boxes, cylinders and leaves, drawn without a label."""

import cv2
import numpy as np

from pumpseg_train.synth.ground import leaf_outline
from pumpseg_train.synth.noise import Array, layered_noise, linear
from pumpseg_train.synth.solid import (
    MAP_COLUMNS,
    MAP_ROWS,
    SUPERSAMPLING,
    Hits,
    Light,
    Placement,
    Skin,
    Sprite,
    cast,
    direction_map,
    grid_of,
    normals,
    shade,
    to_sprite,
)


def make_ball(rng: np.random.Generator) -> Skin:
    """A plain or two-coloured ball, an orange or a tomato: round, often orange, never ribbed."""
    colatitude, _, unit = direction_map()
    shape = (MAP_ROWS, MAP_COLUMNS)
    radius: Array = np.ones(shape, np.float32)
    kind = str(rng.choice(["orange", "plain", "panels", "apple"], p=[0.35, 0.3, 0.15, 0.2]))
    gloss = rng.uniform(0.3, 1.2)
    if kind == "orange":
        pores = layered_noise(rng, shape, (60, 170), 1, wrap_x=True)
        radius = radius * (1 + 0.0016 * pores * np.sin(colatitude))
        colour = linear(rng.uniform(222, 248), rng.uniform(112, 156), rng.uniform(14, 44))
    elif kind == "apple":
        radius = radius * (1 - 0.22 * np.exp(-((colatitude / 0.35) ** 2)))
        colour = linear(*((176, 32, 30), (150, 170, 60), (214, 186, 80))[int(rng.integers(3))])
    else:
        colour = linear(*((240, 120, 20), *_muted(rng, 2))[int(rng.integers(3))])
    mottle = layered_noise(rng, shape, (6, 12), 4, wrap_x=True)
    albedo = colour * (1 + 0.06 * mottle)[..., None]
    if kind == "panels":
        axis = rng.standard_normal(3)
        stripe = np.abs(unit @ (axis / np.linalg.norm(axis))) < rng.uniform(0.03, 0.4)
        other = linear(*_muted(rng, 1)[0])
        albedo = np.where(stripe[..., None], other, albedo)
    radius = radius.astype(np.float32)
    one = np.ones(shape, np.float32)
    return Skin(radius, normals(radius), np.clip(albedo, 0.003, 0.95).astype(np.float32), one, gloss * one)


def _muted(rng: np.random.Generator, count: int) -> Array:
    """(count, 3) sRGB colours of everyday things, mostly far from the corners of the colour cube."""
    grey = rng.uniform(30, 225, (count, 1))
    return np.clip(grey + rng.normal(0, 40, (count, 3)), 8, 245)


def render_ball(skin: Skin, placement: Placement, light: Light) -> Sprite:
    origin, across, up = grid_of(placement, skin.reach)
    return to_sprite(cast(skin, placement, light, across, up), origin)


def make_block(rng: np.random.Generator) -> tuple[list[Array], list[Array]]:
    """A box or an upright cylinder of unit reach: faces (corners, 3) in body axes, and their BGR colours."""
    colour = linear(*_muted(rng, 1)[0])
    if rng.random() < 0.35:
        colour = linear(rng.uniform(200, 245), rng.uniform(96, 140), rng.uniform(10, 50))
    if rng.random() < 0.5:
        corners, (w, d), h = 4, rng.uniform(0.4, 0.8, 2), rng.uniform(0.2, 0.75)
        base = np.array([[-w, -d], [w, -d], [w, d], [-w, d]])
    else:
        corners, w, h = 28, rng.uniform(0.3, 0.65), rng.uniform(0.25, 0.8)
        angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
        base = np.stack([np.cos(angle), np.sin(angle)], 1) * w
    low = np.column_stack([base, np.full(corners, -h)])
    high = np.column_stack([base * rng.uniform(0.8, 1.0), np.full(corners, h)])
    faces = [np.stack([low[i], low[(i + 1) % corners], high[(i + 1) % corners], high[i]]) for i in range(corners)]
    faces += [high, low[::-1]]
    colours = [colour * rng.uniform(0.95, 1.05) for _ in range(corners)] + [colour * rng.uniform(0.7, 1.3)] * 2
    return faces, colours


def render_block(faces: list[Array], colours: list[Array], placement: Placement, light: Light) -> Sprite:
    """Draw the faces of a convex solid that look at the eye."""
    reach = max(float(np.linalg.norm(face, axis=1).max()) for face in faces)
    origin, across, up = grid_of(placement, reach)
    hits = Hits(np.full((len(up), len(across)), np.inf, np.float32), np.zeros((len(up), len(across), 3), np.float32))
    one = np.ones(1, np.float32)
    for face, colour in zip(faces, colours, strict=True):
        world = face @ placement.rotation.T
        normal = np.cross(world[1] - world[0], world[2] - world[0])
        normal = (normal / np.linalg.norm(normal)).astype(np.float32)
        if normal @ placement.view[2] >= 0:
            continue
        middle = world.mean(axis=0, keepdims=True).astype(np.float32)
        lit = shade(normal[None], colour[None], one, 0.4 * one, middle, placement, light)[0]
        seen = world @ placement.view.T
        per_unit = placement.scale * SUPERSAMPLING
        pixels = np.stack([(seen[:, 0] - across[0]) * per_unit, (up[0] - seen[:, 1]) * per_unit], axis=-1)
        fixed = [np.round(pixels * 16).astype(np.int32)]
        cv2.fillPoly(hits.colour, fixed, lit.tolist(), shift=4)
        cv2.fillPoly(hits.depth, fixed, 0.0, shift=4)
    return to_sprite(hits, origin)


def render_leaf(rng: np.random.Generator, centre: tuple[float, float], length: float, light: Light) -> Sprite:
    """A fallen or hanging leaf, flat, `length` pixels long, around the image position `centre`."""
    greens = ((70, 96, 44), (96, 116, 56), (160, 110, 44), (140, 80, 36), (176, 150, 96), (120, 110, 84))
    colour = linear(*greens[int(rng.integers(len(greens)))]) * rng.uniform(0.6, 1.2)
    facing = np.float32(rng.uniform(0.25, 0.9))
    lit = colour * (light.key * facing + light.sky)
    outline = leaf_outline(rng, length) * [1, rng.uniform(0.4, 1.0)]
    half = int(length / 2) + 3
    side = 2 * half * SUPERSAMPLING
    fixed = np.round((outline + half) * SUPERSAMPLING * 16).astype(np.int32)
    depth = np.full((side, side), np.inf, np.float32)
    colours = np.zeros((side, side, 3), np.float32)
    cv2.fillPoly(depth, [fixed], 0.0, shift=4)
    cv2.fillPoly(colours, [fixed], lit.tolist(), shift=4)
    cv2.line(colours, fixed[0].tolist(), fixed[len(fixed) // 2].tolist(), (0.7 * lit).tolist(), 2, 8, 4)
    colours *= (1 + 0.12 * layered_noise(rng, (side, side), (4, 4), 4))[..., None].clip(0.4, 1.6)
    return to_sprite(Hits(depth, colours), (int(centre[0]) - half, int(centre[1]) - half))
