"""Pumpkins: ribbed body, stem, skin colours and carved faces, rendered from any side."""

from dataclasses import dataclass

import cv2
import numpy as np

from pumpseg_train.synth.noise import Array, layered_noise, linear, smoothstep
from pumpseg_train.synth.solid import (
    MAP_COLUMNS,
    MAP_ROWS,
    SUPERSAMPLING,
    UPRIGHT,
    Hits,
    Light,
    Placement,
    Skin,
    Sprite,
    cast,
    direction_map,
    grid_of,
    normals,
    rotation,
    shade,
    to_sprite,
)


@dataclass(frozen=True)
class Stem:
    """A tapered tube along a curve: the mesh (rings, corners, 3) in body axes and its colours."""

    rings: Array
    colours: Array
    """(rings, corners, 3) linear BGR."""


@dataclass(frozen=True)
class Pumpkin:
    """One pumpkin in body units: the widest rib has a radius of about 1."""

    skin: Skin
    stem: Stem
    support: Array
    """(N, 3) points of the body's surface, body axes; enough for its shadow and its lowest point."""

    @property
    def reach(self) -> float:
        """Radius of the centred ball that holds body and stem."""
        return max(self.skin.reach, float(np.linalg.norm(self.stem.rings, axis=-1).max()))


def make_pumpkin(
    rng: np.random.Generator, carved: bool | None = None, lit: bool | None = None, classic: bool = False
) -> Pumpkin:
    """A random pumpkin. `carved` and `lit` force or forbid a face and a candle in it; `classic` keeps to
    orange and to a common shape."""
    colatitude, longitude, _ = direction_map()
    ribs = int(rng.integers(8, 13) if classic else rng.integers(6, 15))
    rib, crest = _ribs(rng, ribs, colatitude, longitude)
    radius = _profile(rng, colatitude, classic)
    depth = rng.uniform(0.05, 0.13) if classic else rng.choice([rng.uniform(0.02, 0.08), rng.uniform(0.06, 0.2)])
    reach_of_ribs = smoothstep(0.0, 0.45, np.sin(colatitude)) ** 0.7
    per_rib = 1 + 0.25 * rng.standard_normal(ribs).clip(-1.5, 1.5)
    groove = (1 - crest) * per_rib[rib] * depth * reach_of_ribs
    lumps = layered_noise(rng, (MAP_ROWS, MAP_COLUMNS), (3, 6), 3, wrap_x=True)
    fade = np.sin(colatitude)
    squeeze = 1 - rng.uniform(0, 0.07) * (0.5 - 0.5 * np.cos(2 * longitude + rng.uniform(0, 6.28)))
    radius = radius * (1 - groove) * (1 + 0.012 * fade * lumps) * squeeze
    fine = layered_noise(rng, (MAP_ROWS, MAP_COLUMNS), (24, 64), 3, wrap_x=True)
    bumpy = rng.uniform(0.0008, 0.0022)
    radius = (radius * (1 + bumpy * fade * fine)).astype(np.float32)
    # A groove sharper than a cell of the map would show as a row of dots.
    wrapped = cv2.copyMakeBorder(radius, 0, 0, 8, 8, cv2.BORDER_WRAP)
    radius = np.ascontiguousarray(cv2.GaussianBlur(wrapped, (0, 0), 1.5)[:, 8:-8])

    albedo, gloss = _skin_colour(rng, colatitude, crest, classic)
    depth_of_groove = (1 - crest) ** 1.5 * reach_of_ribs
    occlusion = 1 - min(0.75, 0.25 + 4.0 * depth) * depth_of_groove
    dimple = np.exp(-((colatitude / 0.30) ** 2)) + np.exp(-(((np.pi - colatitude) / 0.28) ** 2))
    occlusion = np.clip(occlusion * (1 - 0.6 * dimple), 0.08, 1).astype(np.float32)

    if carved is None:
        carved = bool(rng.random() < 0.15)
    hole = glow = None
    if carved:
        hole = _face(rng)
        if lit is None:
            lit = bool(rng.random() < 0.5)
        warm = np.array([0.04, 0.42, 1.0], np.float32)
        glow = warm * np.float32(rng.uniform(0.8, 3.0) if lit else rng.uniform(0.0, 0.04))
    skin = Skin(radius, normals(radius), albedo, occlusion, gloss, hole, glow)
    _, _, unit = direction_map()
    coarse = (slice(None, None, 10), slice(None, None, 16))
    support = (unit[coarse] * radius[coarse][..., None]).reshape(-1, 3)
    return Pumpkin(skin, _stem(rng, float(radius[0].mean()), classic), support)


def _ribs(rng: np.random.Generator, ribs: int, colatitude: Array, longitude: Array) -> tuple[Array, Array]:
    """Index of the rib (rows, columns) and its height, 0 in the groove and 1 on the crest."""
    widths = rng.uniform(0.75, 1.25, ribs)
    edges = np.concatenate([[0], np.cumsum(widths)]) * (2 * np.pi / widths.sum())
    twist = rng.normal(0, 0.05) * (colatitude - np.pi / 2)
    wander = 0.012 * layered_noise(rng, (MAP_ROWS, MAP_COLUMNS), (4, 24), 2, wrap_x=True)
    turned = np.mod(longitude + twist + wander * np.sin(colatitude), 2 * np.pi)
    rib = np.clip(np.searchsorted(edges, turned, side="right") - 1, 0, ribs - 1)
    inside = (turned - edges[rib]) / (edges[rib + 1] - edges[rib])
    roundness = rng.uniform(0.45, 0.8)
    crest = np.abs(np.sin(np.pi * inside)) ** roundness
    # Shallow second grooves along the crests, as on big field pumpkins.
    second = rng.uniform(0, 0.22)
    crest = crest - second * np.exp(-(((inside - 0.5) / 0.13) ** 2))
    return rib, np.clip(crest, 0, 1).astype(np.float32)


def _profile(rng: np.random.Generator, colatitude: Array, classic: bool) -> Array:
    height = rng.uniform(0.72, 0.95) if classic else rng.choice([rng.uniform(0.5, 0.8), rng.uniform(0.75, 1.15)])
    exponent = rng.uniform(2.0, 2.6)
    above, below = height * rng.uniform(0.95, 1.05), height * rng.uniform(0.92, 1.0)
    half = np.where(colatitude < np.pi / 2, above, below)
    radius = (np.sin(colatitude) ** exponent + np.abs(np.cos(colatitude) / half) ** exponent) ** (-1 / exponent)
    top, bottom = rng.uniform(0.12, 0.3), rng.uniform(0.08, 0.25)
    radius = radius * (1 - top * np.exp(-((colatitude / rng.uniform(0.32, 0.5)) ** 2)))
    return radius * (1 - bottom * np.exp(-(((np.pi - colatitude) / rng.uniform(0.3, 0.45)) ** 2)))


_SKINS = {
    "orange": ((232, 118, 22), (214, 92, 12), (240, 142, 44)),
    "dark orange": ((196, 74, 14), (208, 82, 18), (176, 62, 14)),
    "yellow": ((236, 176, 56), (240, 190, 84)),
    "pale": ((236, 224, 196), (224, 206, 176), (228, 172, 128)),
    "green": ((92, 108, 58), (62, 84, 52), (128, 138, 72), (134, 146, 128)),
}
_CHANCES = (0.62, 0.16, 0.08, 0.07, 0.07)


def _skin_colour(rng: np.random.Generator, colatitude: Array, crest: Array, classic: bool) -> tuple[Array, Array]:
    """Albedo (rows, columns, 3) and gloss (rows, columns)."""
    kind = "orange" if classic else str(rng.choice(list(_SKINS), p=_CHANCES))
    shades = _SKINS[kind]
    base = linear(*shades[int(rng.integers(len(shades)))]) * rng.uniform(0.85, 1.1)
    base = base * np.exp(rng.normal(0, 0.06, 3))
    shape = (MAP_ROWS, MAP_COLUMNS)
    streaks = layered_noise(rng, shape, (2, 90), 3, wrap_x=True)
    mottle = layered_noise(rng, shape, (5, 10), 4, wrap_x=True)
    grain = layered_noise(rng, shape, (48, 144), 2, wrap_x=True)
    tone = 1 + 0.05 * streaks + 0.06 * mottle + 0.035 * grain
    albedo = base * np.clip(tone, 0.5, 1.5)[..., None]
    # Paler on the crests, redder and darker in the grooves.
    groove = ((1 - crest) * np.sin(colatitude) ** 0.3)[..., None]
    redder = np.array([0.55, 0.62, 0.88], np.float32) if kind != "green" else np.array([0.8, 0.75, 0.7])
    albedo = albedo * (1 + (redder - 1) * groove * rng.uniform(0.4, 1.0))

    if rng.random() < (0.35 if kind in ("orange", "yellow", "dark orange") else 0.2) and not classic:
        # Not quite ripe: green runs down from the stem, deeper in the grooves.
        unripe = smoothstep(rng.uniform(0.9, 1.7), 0.1, colatitude + 0.25 * mottle + 0.3 * (crest - 0.5))
        albedo = _mix(albedo, linear(96, 106, 36), 0.75 * unripe * rng.random())
    if not classic and rng.random() < 0.08:
        stripes = smoothstep(0.25, 0.75, crest + 0.22 * mottle + 0.1 * streaks)
        other = linear(*((62, 84, 50) if kind in ("pale", "yellow") else (238, 204, 130)))
        albedo = _mix(albedo, other, 0.85 * (1 - stripes))
    scars = smoothstep(1.9, 2.6, layered_noise(rng, shape, (9, 22), 4, wrap_x=True))
    albedo = _mix(albedo, linear(176, 138, 86), scars * rng.uniform(0.2, 0.9))
    specks = smoothstep(2.1, 2.6, layered_noise(rng, shape, (90, 260), 1, wrap_x=True))
    albedo = _mix(albedo, linear(244, 190, 120), specks * rng.uniform(0, 0.35))
    dirt = smoothstep(0.4, 2.2, layered_noise(rng, shape, (4, 9), 5, wrap_x=True) + 1.6 * (colatitude - 1.9))
    albedo = _mix(albedo, linear(110, 84, 60), dirt * rng.choice([0.0, 0.15, 0.55], p=[0.5, 0.3, 0.2]))
    blossom = np.exp(-(((np.pi - colatitude) / 0.11) ** 2)) * np.ones_like(crest)
    albedo = _mix(albedo, linear(120, 92, 58), 0.9 * blossom)

    gloss = rng.uniform(0.25, 1.0) * (1 - 0.7 * scars) * (1 - 0.5 * dirt) * (1 + 0.15 * mottle)
    return np.clip(albedo, 0.002, 0.95).astype(np.float32), np.clip(gloss, 0, 1.2).astype(np.float32)


def _mix(albedo: Array, other: Array, share: Array) -> Array:
    share = np.clip(share, 0, 1)[..., None]
    return albedo * (1 - share) + other * share


def _face(rng: np.random.Generator) -> Array:
    """Hole map of a carved face around longitude pi/2: UPRIGHT turns it towards the camera."""
    hole = np.zeros((MAP_ROWS, MAP_COLUMNS), np.uint8)
    per_u, per_v = MAP_COLUMNS / (2 * np.pi), (MAP_ROWS - 1) / np.pi

    def cut(points: Array) -> None:
        """points (N, 2): right and up in radians from the middle of the face."""
        column = (np.pi / 2 + points[:, 0]) * per_u
        row = (np.pi / 2 - points[:, 1]) * per_v
        pixels = np.round(np.stack([column, row], axis=1) * 16).astype(np.int32)
        cv2.fillPoly(hole, [pixels], 1, shift=4)

    spread, raised, size = rng.uniform(0.3, 0.42), rng.uniform(0.15, 0.28), rng.uniform(0.13, 0.2)
    style = int(rng.integers(3))
    lean = rng.uniform(-0.5, 0.5)
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    for side in (-1, 1):
        if style == 0:
            eye = np.array([[-1, -0.7], [1, -0.7], [lean * side, 1]]) * size
        elif style == 1:
            eye = np.stack([np.cos(angle), np.sin(angle)], axis=1) * size * 0.85
        else:
            arc = np.linspace(0, np.pi, 12)
            eye = np.stack([np.cos(arc), np.sin(arc) * 1.2 - 0.4 + 0.5 * side * np.cos(arc)], axis=1) * size
        cut(eye + np.array([side * spread, raised]))
    if rng.random() < 0.85:
        nose = rng.uniform(0.05, 0.1)
        cut(np.array([[-nose, -nose - 0.02], [nose, -nose - 0.02], [0, nose - 0.02]]))
    width, drop = rng.uniform(0.4, 0.62), rng.uniform(0.05, 0.25)
    thick = rng.uniform(0.1, 0.2)
    t = np.linspace(-1, 1, 41)
    teeth = int(rng.integers(3, 8))
    wave = np.abs(np.mod(t * teeth, 1.0) - 0.5) * 2
    toothed = rng.random() < 0.75
    smile = drop * t**2 * (1 if rng.random() < 0.85 else -0.6)
    taper = (1 - 0.85 * t**4) * thick
    upper = smile + taper * (1 - 0.55 * wave * toothed)
    lower = smile - taper * (1 - 0.55 * (1 - wave) * toothed)
    mouth = np.concatenate([np.stack([t * width, upper], 1), np.stack([t * width, lower], 1)[::-1]])
    cut(mouth + np.array([0, -0.33]))
    return hole.astype(np.float32)


def _stem(rng: np.random.Generator, base_height: float, classic: bool) -> Stem:
    rings, corners = 16, 36
    length = rng.uniform(0.28, 0.55) if classic else rng.choice([rng.uniform(0.12, 0.35), rng.uniform(0.3, 0.85)])
    thick = rng.uniform(0.09, 0.14) if classic else rng.uniform(0.07, 0.17)
    bend, azimuth = rng.uniform(0.1, 1.5), rng.uniform(0, 2 * np.pi)
    along = np.linspace(0, 1, rings)
    lean = bend * along**1.3
    step = length / (rings - 1)
    out = np.concatenate([[0], np.cumsum(np.sin(lean[1:]) * step)])
    rise = np.concatenate([[0], np.cumsum(np.cos(lean[1:]) * step)])
    side = np.array([np.cos(azimuth), np.sin(azimuth), 0])
    curve = out[:, None] * side + rise[:, None] * [0, 0, 1] + [0, 0, base_height - 0.06]
    tangent = np.sin(lean)[:, None] * side + np.cos(lean)[:, None] * [0, 0, 1]
    binormal = np.cross([0, 0, 1], side)
    normal = np.cross(binormal, tangent)
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    ribs = int(rng.integers(5, 8))
    fluted = 1 + rng.uniform(0.08, 0.2) * np.cos(ribs * (angle + along[:, None] * rng.normal(0, 0.8)))
    taper = 1 - rng.uniform(0.2, 0.5) * along + 1.1 * np.exp(-along / 0.12) + 0.25 * smoothstep(0.8, 1, along)
    width = (thick * taper)[:, None] * fluted * (1 + 0.03 * rng.standard_normal((rings, corners)))
    mesh = curve[:, None] + width[..., None] * (
        np.cos(angle)[None, :, None] * normal[:, None] + np.sin(angle)[None, :, None] * binormal
    )
    fresh, dry = linear(104, 112, 52), linear(150, 122, 82)
    colour = fresh + (dry - fresh) * rng.random() if classic else _any_stem_colour(rng)
    tone = 0.8 + 0.25 * (fluted - fluted.min()) / np.ptp(fluted) + 0.1 * rng.standard_normal((rings, corners))
    tone = tone * (0.65 + 0.35 * along[:, None])
    return Stem(mesh.astype(np.float32), (np.clip(tone, 0.2, 1.4)[..., None] * colour).astype(np.float32))


def _any_stem_colour(rng: np.random.Generator) -> Array:
    choices = ((104, 112, 52), (150, 122, 82), (84, 96, 40), (172, 152, 110), (112, 92, 66), (92, 104, 88))
    return linear(*choices[int(rng.integers(len(choices)))]) * rng.uniform(0.7, 1.2)


def _paint_stem(pumpkin: Pumpkin, placement: Placement, light: Light, hits: Hits, across: Array, up: Array) -> None:
    """Draw the stem's quads from far to near into `hits`, wherever they are in front of the body."""
    rings = pumpkin.stem.rings
    count, corners, _ = rings.shape
    following = np.roll(np.arange(corners), -1)
    quads = np.stack([rings[:-1], rings[:-1][:, following], rings[1:][:, following], rings[1:]], axis=2)
    quads = quads.reshape(-1, 4, 3)
    colours = ((pumpkin.stem.colours[:-1] + pumpkin.stem.colours[1:]) / 2).reshape(-1, 3)
    quads_normal = np.cross(quads[:, 1] - quads[:, 0], quads[:, 3] - quads[:, 0])
    quads_normal /= np.maximum(np.linalg.norm(quads_normal, axis=1, keepdims=True), 1e-9)
    world = quads @ placement.rotation.T
    normal = (quads_normal @ placement.rotation.T).astype(np.float32)
    middle = world.mean(axis=1).astype(np.float32)
    matte = np.full(len(quads), 0.15, np.float32)
    # The foot of the stem is in the dimple.
    occlusion = (0.45 + 0.55 * np.clip(np.repeat(np.arange(count - 1), corners) / 4, 0, 1)).astype(np.float32)
    lit = shade(normal, colours, occlusion, matte, middle, placement, light)

    seen = world @ placement.view.T
    facing = normal @ placement.view[2] < 0.05
    depth = seen[..., 2].mean(axis=1)
    per_unit = placement.scale * SUPERSAMPLING
    x0, y0 = across[0], up[0]
    pixels = np.stack([(seen[..., 0] - x0) * per_unit, (y0 - seen[..., 1]) * per_unit], axis=-1)
    fixed = np.round(pixels * 16).astype(np.int32)
    layer = np.zeros_like(hits.colour)
    layer_depth = np.full_like(hits.depth, np.inf)
    order = np.flatnonzero(facing)
    for quad in order[np.argsort(-depth[order], kind="stable")]:
        cv2.fillConvexPoly(layer, fixed[quad], lit[quad].tolist(), lineType=cv2.LINE_8, shift=4)
        cv2.fillConvexPoly(layer_depth, fixed[quad], float(depth[quad]), lineType=cv2.LINE_8, shift=4)
    _paint_cut(pumpkin, placement, light, layer, layer_depth, (x0, y0, per_unit))
    before = layer_depth < hits.depth
    hits.colour[before] = layer[before]
    hits.depth[before] = layer_depth[before]


def _paint_cut(
    pumpkin: Pumpkin,
    placement: Placement,
    light: Light,
    layer: Array,
    layer_depth: Array,
    frame: tuple[float, float, float],
) -> None:
    """The dry face where the stem was cut off."""
    end = pumpkin.stem.rings[-1] @ placement.rotation.T
    normal = np.cross(end[len(end) // 4] - end[0], end[len(end) // 2] - end[0])
    normal = normal / max(float(np.linalg.norm(normal)), 1e-9)
    if np.dot(normal, end.mean(axis=0) - pumpkin.stem.rings[-2].mean(axis=0) @ placement.rotation.T) < 0:
        normal = -normal
    if normal @ placement.view[2] > -0.02:
        return
    middle = end.mean(axis=0, keepdims=True).astype(np.float32)
    one = np.ones(1, np.float32)
    colour = 0.5 * (pumpkin.stem.colours[-1].mean(axis=0, keepdims=True) + linear(150, 128, 92))
    lit = shade(normal[None].astype(np.float32), colour, one, 0.1 * one, middle, placement, light)[0]
    seen = end @ placement.view.T
    x0, y0, per_unit = frame
    pixels = np.stack([(seen[:, 0] - x0) * per_unit, (y0 - seen[:, 1]) * per_unit], axis=-1)
    fixed = np.round(pixels * 16).astype(np.int32)
    cv2.fillPoly(layer, [fixed], lit.tolist(), shift=4)
    cv2.fillPoly(layer_depth, [fixed], float(seen[:, 2].mean()), shift=4)


def render_pumpkin(pumpkin: Pumpkin, placement: Placement, light: Light) -> Sprite:
    """Ray-cast the body, draw the stem and average down to a sprite with soft edges."""
    origin, across, up = grid_of(placement, pumpkin.reach)
    hits = cast(pumpkin.skin, placement, light, across, up)
    _paint_stem(pumpkin, placement, light, hits, across, up)
    return to_sprite(hits, origin)


def random_turn(rng: np.random.Generator, lying: float = 0.3) -> Array:
    """(3, 3) body-to-world rotation: mostly standing, slightly leaning; with chance `lying` any way round."""
    spin = rotation(np.array([0, 1, 0]), rng.uniform(0, 2 * np.pi))
    lean_axis = rotation(np.array([0, 1, 0]), rng.uniform(0, 2 * np.pi)) @ [1, 0, 0]
    lean = rng.uniform(0.3, np.pi) if rng.random() < lying else abs(rng.normal(0, 0.12))
    return rotation(lean_axis, lean) @ spin @ UPRIGHT


def random_light(rng: np.random.Generator) -> Light:
    """Sun from above left or right, warm or cool, clear or overcast."""
    height, side = rng.uniform(0.45, 1.25), rng.uniform(-np.pi, np.pi)
    direction = np.array([np.cos(height) * np.sin(side), np.sin(height), -np.cos(height) * np.cos(side)])
    softness = float(rng.beta(0.8, 1.3))
    warm = rng.uniform(-0.05, 0.35)
    key = np.array([1 - 1.3 * warm, 1 - 0.4 * warm, 1.0], np.float32) * np.float32(3.0 * (1 - 0.8 * softness))
    sky = np.array([1.12, 1.0, 0.92], np.float32) * np.float32(0.38 + 1.0 * softness)
    bounce = np.array([0.65, 0.85, 1.0], np.float32) * np.float32(0.32 * (0.6 + softness))
    return Light(direction, key, sky, bounce, softness)
