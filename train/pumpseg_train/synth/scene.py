"""A photo-like scene of pumpkins with the exact visible mask of each."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from pumpseg_train.synth.film import develop, metered, random_film
from pumpseg_train.synth.ground import (
    BACKDROPS,
    GROUNDS,
    Camera,
    make_backdrop,
    make_ground,
    render_ground,
)
from pumpseg_train.synth.noise import Array, smoothstep
from pumpseg_train.synth.photo_sources import NO_PHOTOS, PhotoSources, cutout_sprite, draw_background
from pumpseg_train.synth.props import make_ball, make_block, render_ball, render_block, render_leaf
from pumpseg_train.synth.pumpkin import Pumpkin, make_pumpkin, random_light, random_turn, render_pumpkin
from pumpseg_train.synth.solid import UPRIGHT, Light, Placement, Sprite, direction_map, rotation

SMALLEST_AREA = 48
"""Visible pixels below which a pumpkin is left out of the picture rather than labelled."""
SMALLEST_SHARE = 0.12
"""Visible share of a pumpkin, of the part inside the image, below which it is left out too."""

CUTOUT_SHARE = 0.5
"""Of the pumpkins, where cut-outs are given."""


@dataclass(frozen=True)
class RenderedScene:
    """image: uint8 BGR (h, w, 3); masks: bool (N, h, w), visible parts of the pumpkins, disjoint."""

    image: Array
    masks: Array


@dataclass(frozen=True)
class Body:
    """One solid in a scene, still to be rendered."""

    placement: Placement
    outline: Array
    """(N, 3) world points whose shadow is the solid's shadow."""
    reach: float
    """Radius in metres of the ball that represents the solid in its neighbours' light."""
    labelled: bool
    render: Callable[[Placement], Sprite]


def place(
    camera: Camera,
    ground_xz: tuple[float, float],
    size: float,
    turn: Array,
    support: Array,
    lift: float = 0.0,
) -> tuple[Placement, Array]:
    """Set a solid of support points (N, 3), body units, on the ground; returns these in the world too."""
    spread = support @ turn.T * size
    position = np.array([ground_xz[0], lift - float(spread[:, 1].min()), ground_xz[1]])
    (x, y), depth = camera.project(position)
    scale = camera.focal * size / max(float(depth), 0.05)
    placement = Placement(position, size, turn, camera.view_of(position), (float(x), float(y)), scale, camera.size)
    return placement, spread + position


@dataclass(frozen=True)
class Spot:
    """Where a solid of `size` metres is set down, `lift` metres above the ground (x, z)."""

    camera: Camera
    light: Light
    xz: tuple[float, float]
    size: float
    lift: float

    def place(self, turn: Array, support: Array) -> tuple[Placement, Array]:
        """As the function `place`."""
        return place(self.camera, self.xz, self.size, turn, support, self.lift)


def cast_shadows(camera: Camera, light: Light, outlines: list[Array]) -> tuple[Array, Array]:
    """Share of the sun, and share of the sky, that reaches the ground at each pixel: two float32 (h, w)."""
    width, height = camera.size
    sun = np.ones((height, width), np.float32)
    sky = np.ones((height, width), np.float32)
    for points in outlines:
        above = np.maximum(points[:, 1:2], 0)
        fallen = points - light.direction * (above / max(float(light.direction[1]), 0.1))
        base = points.copy()
        base[:, 1] = 0
        middle = base.mean(axis=0)
        span = float(np.linalg.norm(base - middle, axis=1).max())
        (centre, edge), depth = camera.project(np.stack([middle, middle + camera.axes[0] * span]))
        if depth[0] < 0.15:
            continue
        radius = float(abs(edge[0] - centre[0]))
        _darken(camera, sun, fallen, radius * (0.04 + 0.30 * light.softness), 1 - 0.3 * light.softness)
        _darken(camera, sky, middle + (base - middle) * 1.05, radius * 0.25, 0.65)
        _darken(camera, sky, middle + (base - middle) * 0.62, radius * 0.12, 0.85)
        _darken(camera, sun, middle + (base - middle) * 0.55, radius * 0.10, 0.8)
    return sun, sky


def _darken(camera: Camera, share: Array, points: Array, sigma: float, strength: float) -> None:
    """Multiply `share` by 1 - strength inside the hull of ground points, its edge `sigma` pixels soft."""
    pixels, depth = camera.project(points)
    if float(depth.min()) < 0.1:
        return
    hull = cv2.convexHull(pixels.astype(np.float32)).reshape(-1, 2)
    height, width = share.shape
    margin = 3 * sigma + 2
    left, top = (max(0, int(v)) for v in hull.min(axis=0) - margin)
    right, bottom = int(min(width, hull[:, 0].max() + margin)), int(min(height, hull[:, 1].max() + margin))
    if right <= left or bottom <= top:
        return
    patch: Array = np.zeros((bottom - top, right - left), np.float32)
    cv2.fillConvexPoly(patch, np.round((hull - [left, top]) * 16).astype(np.int32), 1.0, cv2.LINE_8, 4)
    patch = cv2.GaussianBlur(patch, (0, 0), max(sigma, 0.6))
    share[top:bottom, left:right] *= 1 - np.float32(strength) * patch


def lit_ground(
    camera: Camera, light: Light, albedo: Array, distance: Array, backdrop: Array, outlines: list[Array]
) -> Array:
    """Ground in sun and shadow before its backdrop: linear BGR (h, w, 3)."""
    sun, sky = cast_shadows(camera, light, outlines)
    key = light.key * np.float32(max(light.direction[1], 0.1))
    image = albedo * (key * sun[..., None] + light.sky * sky[..., None])
    surroundings = backdrop * (0.35 * light.key + 0.75 * light.sky)
    haze = np.clip(smoothstep(4, 60, np.minimum(distance, 100)), 0, 0.35)[..., None]
    far = surroundings.mean(axis=(0, 1))
    image = image + (far - image) * haze
    # The far edge of the ground fades into the backdrop.
    behind = smoothstep(24, 60, np.minimum(distance, 100))[..., None]
    return (image * (1 - behind) + surroundings * behind).astype(np.float32)


def compose(image: Array, sprites: list[Sprite], labels: list[int]) -> Array:
    """Lay sprites over linear BGR `image` in place, far ones first; returns each pixel's owner, int32 (h, w).

    A pixel belongs to the last sprite that covers at least half of it: its label, or 0 for nobody.
    """
    height, width = image.shape[:2]
    owner = np.zeros((height, width), np.int32)
    for sprite, label in zip(sprites, labels, strict=True):
        x, y = sprite.origin
        rows, columns = sprite.alpha.shape
        top, left, bottom, right = max(y, 0), max(x, 0), min(y + rows, height), min(x + columns, width)
        if top >= bottom or left >= right:
            continue
        inner = (slice(top - y, bottom - y), slice(left - x, right - x))
        outer = (slice(top, bottom), slice(left, right))
        image[outer] = image[outer] * (1 - sprite.alpha[inner][..., None]) + sprite.colour[inner]
        owner[outer][sprite.mask[inner]] = label
    return owner


def visible_shares(sprites: list[Sprite], owner: Array, labels: list[int]) -> tuple[list[int], list[float]]:
    """Visible pixels of each sprite, and their share of its pixels inside the image."""
    areas, shares = [], []
    height, width = owner.shape
    counts = np.bincount(owner.ravel(), minlength=max(labels, default=0) + 1)
    for sprite, label in zip(sprites, labels, strict=True):
        x, y = sprite.origin
        inside = sprite.mask[max(-y, 0) : max(height - y, 0), max(-x, 0) : max(width - x, 0)]
        whole = int(np.count_nonzero(inside))
        areas.append(int(counts[label]) if label else 0)
        shares.append(areas[-1] / max(whole, 1))
    return areas, shares


def render_scene(
    rng: np.random.Generator, size: tuple[int, int] = (640, 480), photos: PhotoSources = NO_PHOTOS
) -> RenderedScene:
    """A random scene of `size` (width, height) pixels. It may, now and then, hold no pumpkin at all.

    photos: cut-outs take the place of some rendered pumpkins, a background that of ground and backdrop.
    """
    layout = str(rng.choice(["ground", "portrait", "pile", "none"], p=[0.6, 0.17, 0.18, 0.05]))
    light = random_light(rng)
    if rng.random() < 0.06:
        light = replace(light, key=light.key * [0.35, 0.12, 0.08], sky=light.sky * [0.2, 0.11, 0.09])
    camera = _random_camera(rng, size, layout)
    bodies = _bodies(rng, camera, light, layout, photos)

    if photos.backgrounds:
        albedo = draw_background(rng, photos.backgrounds, size)
        # Without a distance no haze veils the photo.
        distance, backdrop = np.zeros(albedo.shape[:2], np.float32), np.zeros_like(albedo)
    else:
        ground_kind = str(rng.choice(GROUNDS))
        backdrop_kind = str(rng.choice(BACKDROPS))
        ground = make_ground(rng, ground_kind)
        albedo, distance = render_ground(ground, camera)
        backdrop = make_backdrop(rng, backdrop_kind, size, camera.horizon)
    bodies.sort(key=lambda body: -float((body.placement.position - camera.position) @ camera.axes[2]))
    sprites = [body.render(_lit(body, bodies)) for body in bodies]
    if rng.random() < 0.25:
        for _ in range(int(rng.integers(1, 6))):
            centre = (rng.uniform(0, size[0]), rng.uniform(0.2, 1) * size[1])
            sprites.append(render_leaf(rng, centre, rng.uniform(0.04, 0.2) * size[0], light))
    labels = [i + 1 if i < len(bodies) and bodies[i].labelled else 0 for i in range(len(sprites))]
    # Leave out who can hardly be seen: a label there would be noise, and so would be its absence.
    blank = np.zeros((size[1], size[0], 3), np.float32)
    areas, shares = visible_shares(sprites, compose(blank, sprites, labels), labels)
    seen = [
        i for i, label in enumerate(labels) if not label or (areas[i] >= SMALLEST_AREA and shares[i] >= SMALLEST_SHARE)
    ]
    outlines = [bodies[i].outline for i in seen if i < len(bodies)]
    image = lit_ground(camera, light, albedo, distance, backdrop, outlines)
    sprites, labels = [sprites[i] for i in seen], [labels[i] for i in seen]
    owner = compose(image, sprites, labels)
    film = random_film(rng)
    photo = develop(image, film, metered(image), rng)
    masks = [owner == label for label in labels if label]
    return RenderedScene(photo, np.array(masks, bool).reshape(-1, size[1], size[0]))


def _random_camera(rng: np.random.Generator, size: tuple[int, int], layout: str) -> Camera:
    focal = size[0] * rng.uniform(0.85, 1.35)
    if layout == "pile":
        height, pitch = rng.uniform(1.3, 2.2), rng.uniform(0.65, 1.35)
    elif layout == "portrait":
        height, pitch = rng.uniform(0.25, 0.8), rng.uniform(0.1, 0.5)
    else:
        height, pitch = rng.uniform(0.4, 1.6), rng.uniform(0.08, 0.55)
    return Camera(np.array([rng.uniform(-3, 3), height, rng.uniform(-3, 3)]), pitch, 0.0, focal, size)


def _lit(body: Body, bodies: list[Body]) -> Placement:
    """The body's placement with the neighbours that can darken it."""
    position = body.placement.position

    def distance(other: Body) -> float:
        return float(np.linalg.norm(other.placement.position - position))

    others = [other for other in bodies if other is not body and distance(other) < 4 * (other.reach + body.reach)]
    nearest = sorted(others, key=distance)[:8]
    return replace(body.placement, neighbours=tuple((other.placement.position, other.reach) for other in nearest))


def _bodies(rng: np.random.Generator, camera: Camera, light: Light, layout: str, photos: PhotoSources) -> list[Body]:
    if layout == "portrait":
        count, props = int(rng.integers(1, 4)), int(rng.integers(0, 3))
    elif layout == "pile":
        count, props = int(rng.integers(10, 34)), int(rng.integers(0, 3))
    elif layout == "none":
        count, props = 0, int(rng.integers(2, 9))
    else:
        count, props = int(rng.integers(1, 11)), int(rng.choice([0, 0, 1, 2, 4]))
    typical = rng.uniform(0.09, 0.24)
    taken: list[tuple[float, float, float]] = []
    bodies: list[Body] = []
    grown: list[Pumpkin] = []
    for i in range(count + props):
        size = float(np.clip(typical * np.exp(rng.normal(0, 0.25)), 0.06, 0.3))
        xz = _free_ground(rng, camera, layout, size, taken)
        if xz is None:
            continue
        taken.append((*xz, size))
        lift = 0.0
        if layout == "pile":
            # It rests on the earlier ones that it would run into.
            lift = max((0.9 * (size + r) - np.hypot(xz[0] - x, xz[1] - z) for x, z, r in taken[:-1]), default=0.0)
            lift = float(np.clip(lift, 0, 1.4 * size))
        spot = Spot(camera, light, xz, size, lift)
        if i < count and photos.cutouts and rng.random() < CUTOUT_SHARE:
            bodies.append(_cutout_body(rng, spot, photos))
        elif i < count:
            # Pumpkins in a pile come from one field: some share a shape, each turned differently.
            again = layout == "pile" and len(grown) > 4 and rng.random() < 0.6
            pumpkin = grown[int(rng.integers(len(grown)))] if again else None
            body, pumpkin = _pumpkin_body(rng, spot, layout, pumpkin)
            grown.append(pumpkin)
            bodies.append(body)
        else:
            bodies.append(_prop_body(rng, replace(spot, size=size * rng.uniform(0.4, 1.1))))
    return bodies


def _free_ground(
    rng: np.random.Generator,
    camera: Camera,
    layout: str,
    size: float,
    taken: list[tuple[float, float, float]],
) -> tuple[float, float] | None:
    """Ground position (x, z) that the camera sees and nothing else stands on; None after too many tries."""
    width, height = camera.size
    closest = max(0.55, 3.0 * size)
    for _ in range(30):
        column = rng.uniform(-0.02, 1.02) * width
        if layout == "portrait":
            depth = rng.uniform(2.4, 5.5) * size * camera.focal / width + 0.15
        elif layout == "pile":
            row = rng.uniform(0.0, 1.05) * height
            slope = np.tan(camera.pitch + np.arctan((row - height / 2) / camera.focal))
            depth = float(np.clip(camera.position[1] / max(slope, 0.15), 0.0, 6))
        else:
            farthest = max(1.5 * closest, min(9.0, 2 * size * camera.focal / (0.05 * width)))
            depth = float(np.exp(rng.uniform(np.log(closest), np.log(farthest))))
        x = camera.position[0] + (column - width / 2) / camera.focal * max(depth, camera.position[1])
        z = camera.position[2] + depth
        apart = 0.55 if layout == "pile" else 1.0
        if all(np.hypot(x - a, z - b) > apart * (size + r) for a, b, r in taken):
            (_, row), ahead = camera.project(np.array([x, size, z]))
            if ahead > 2.0 * size and -0.1 * height < row < 1.05 * height:
                return float(x), float(z)
    return None


def _pumpkin_body(rng: np.random.Generator, spot: Spot, layout: str, pumpkin: Pumpkin | None) -> tuple[Body, Pumpkin]:
    dark = float(spot.light.sky.mean()) < 0.3
    carved = bool(rng.random() < (0.8 if dark else 0.12)) and layout != "pile"
    chosen = pumpkin or make_pumpkin(rng, carved=carved, lit=True if dark else None)
    if carved:
        turn = rotation(np.array([0, 1, 0]), rng.normal(0, 0.5)) @ UPRIGHT
    else:
        turn = random_turn(rng, lying=0.5 if layout == "pile" else 0.2)
    placement, outline = spot.place(turn, chosen.support)
    body = Body(placement, outline, spot.size * 0.92, True, lambda where: render_pumpkin(chosen, where, spot.light))
    return body, chosen


def _cutout_body(rng: np.random.Generator, spot: Spot, photos: PhotoSources) -> Body:
    cutout = photos.cutouts[int(rng.integers(len(photos.cutouts)))]
    mirrored = bool(rng.random() < 0.5)
    placement, outline = spot.place(UPRIGHT, _unit_support().reshape(-1, 3))
    return Body(
        placement, outline, spot.size * 0.92, True, lambda where: cutout_sprite(cutout, mirrored, where, spot.light)
    )


def _prop_body(rng: np.random.Generator, spot: Spot) -> Body:
    turn = rotation(np.array([0, 1, 0]), rng.uniform(0, 2 * np.pi)) @ UPRIGHT
    if rng.random() < 0.65:
        skin = make_ball(rng)
        turn = rotation(rng.standard_normal(3), rng.uniform(0, np.pi)) @ turn
        support = (skin.radius[::10, ::16, None] * _unit_support()).reshape(-1, 3)
        placement, outline = spot.place(turn, support)
        return Body(placement, outline, spot.size, False, lambda where: render_ball(skin, where, spot.light))
    faces, colours = make_block(rng)
    placement, outline = spot.place(turn, np.concatenate(faces))
    return Body(
        placement, outline, spot.size * 0.6, False, lambda where: render_block(faces, colours, where, spot.light)
    )


def _unit_support() -> Array:
    return direction_map()[2][::10, ::16]
