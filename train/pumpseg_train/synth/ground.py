"""Camera, ground and background."""

from dataclasses import dataclass

import cv2
import numpy as np

from pumpseg_train.synth.noise import Array, layered_noise, linear, smoothstep

TILE = 768
"""Side of the ground's texture in pixels."""
TILE_METRES = 1.6
GROUNDS = ("soil", "grass", "straw", "planks", "concrete", "leaves")
BACKDROPS = ("field", "hedge", "wall", "room")


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: position in metres (world axes), pitch down and yaw to the right in radians,
    focal length in pixels, and image size (width, height)."""

    position: Array
    pitch: float
    yaw: float
    focal: float
    size: tuple[int, int]

    @property
    def axes(self) -> Array:
        """(3, 3): right, up and forward of the image plane in world axes."""
        sin_y, cos_y = np.sin(self.yaw), np.cos(self.yaw)
        sin_p, cos_p = np.sin(self.pitch), np.cos(self.pitch)
        right = np.array([cos_y, 0, -sin_y])
        ahead = np.array([sin_y, 0, cos_y])
        upright = np.array([0.0, 1.0, 0.0])
        return np.stack([right, upright * cos_p + ahead * sin_p, ahead * cos_p - upright * sin_p])

    def project(self, points: Array) -> tuple[Array, Array]:
        """World points (..., 3) to image (x, y) (..., 2) in pixels and depth along the optical axis (...)."""
        seen = (points - self.position) @ self.axes.T
        depth = np.maximum(seen[..., 2], 1e-3)
        x = self.size[0] / 2 + self.focal * seen[..., 0] / depth
        y = self.size[1] / 2 - self.focal * seen[..., 1] / depth
        return np.stack([x, y], axis=-1), seen[..., 2]

    def view_of(self, point: Array) -> Array:
        """(3, 3) image-plane axes for a solid centred at `point`: forward runs from the eye through it."""
        ahead = point - self.position
        ahead = ahead / np.linalg.norm(ahead)
        right = np.cross(self.axes[1], ahead)
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(ahead, right), ahead])

    @property
    def horizon(self) -> float:
        """Image row of the horizon in pixels."""
        return self.size[1] / 2 - self.focal * float(np.tan(self.pitch))


@dataclass(frozen=True)
class Ground:
    """Albedo tiles of the ground, linear BGR float32 (TILE, TILE, 3), from sharp to blurred."""

    levels: tuple[Array, ...]
    patches: Array
    """(TILE, TILE) large-scale brightness, laid out six times as wide as the tile."""


def make_ground(rng: np.random.Generator, kind: str) -> Ground:
    """One of GROUNDS."""
    shape = (TILE, TILE)
    coarse = layered_noise(rng, shape, (5, 5), 6, gain=0.7)
    fine = layered_noise(rng, shape, (90, 90), 3, gain=0.8)
    tile = {
        "soil": _soil,
        "grass": _grass,
        "straw": _straw,
        "planks": _planks,
        "concrete": _concrete,
        "leaves": _leaves,
    }[kind](rng, coarse, fine)
    tile = np.clip(tile, 0.004, 0.9).astype(np.float32)
    tile = _seamless(tile)
    blurred, faint = _blurred_around(tile, 2.5), _blurred_around(tile, 10.0)
    patches = 1 + 0.12 * layered_noise(rng, shape, (5, 5), 3)
    return Ground((tile, blurred, faint), _seamless(np.clip(patches, 0.6, 1.4).astype(np.float32)))


def _seamless(tile: Array) -> Array:
    """Fade the edges of a tile into itself shifted by half a side, so that its copies join without a seam."""
    position = np.abs(np.linspace(-1, 1, TILE, dtype=np.float32))
    share = smoothstep(0.98, 0.72, position)
    # Mixing two unlike textures flattens them: stretch the contrast back.
    gain = 1 / np.sqrt(share**2 + (1 - share) ** 2)
    mean = tile.mean(axis=(0, 1))
    for axis in (0, 1):
        shape = [1] * tile.ndim
        shape[axis] = TILE
        own = share.reshape(shape)
        mixed = tile * own + np.roll(tile, TILE // 2, axis) * (1 - own)
        tile = np.maximum(mean + (mixed - mean) * gain.reshape(shape), 0.003)
    return tile.astype(np.float32)


def _blurred_around(tile: Array, sigma: float) -> Array:
    pad = int(4 * sigma)
    wrapped = cv2.copyMakeBorder(tile, pad, pad, pad, pad, cv2.BORDER_WRAP)
    return np.ascontiguousarray(cv2.GaussianBlur(wrapped, (0, 0), sigma)[pad:-pad, pad:-pad])


def _soil(rng: np.random.Generator, coarse: Array, fine: Array) -> Array:
    shades = ((92, 70, 50), (122, 98, 74), (74, 60, 48), (134, 112, 90))
    base = linear(*shades[int(rng.integers(len(shades)))])
    tile = base * np.exp(0.28 * coarse + 0.28 * fine)[..., None]
    canvas = np.ascontiguousarray(tile, np.float32)
    _strands(rng, canvas, int(rng.integers(0, 500)), (linear(168, 142, 100), linear(110, 92, 62)), (6, 30), 1)
    for _ in range(int(rng.integers(0, 220))):
        centre, radius = rng.integers(0, TILE, 2).tolist(), int(rng.integers(1, 7))
        tone = (base * rng.uniform(0.8, 2.6)).tolist()
        cv2.ellipse(canvas, centre, (radius, max(1, radius - 2)), rng.uniform(0, 180), 0, 360, tone, -1)
    return canvas


def _grass(rng: np.random.Generator, coarse: Array, fine: Array) -> Array:
    base = linear(56, 66, 30)
    canvas = np.ascontiguousarray(base * np.exp(0.3 * coarse + 0.2 * fine)[..., None], np.float32)
    dry = rng.random() * 0.7
    shades = [linear(84, 112, 40), linear(110, 132, 58), linear(62, 88, 32)]
    if dry > 0.3:
        shades += [linear(158, 142, 84), linear(132, 120, 70)]
    _strands(rng, canvas, 5200, tuple(shades), (14, 44), 2)
    return canvas


def _straw(rng: np.random.Generator, coarse: Array, fine: Array) -> Array:
    canvas = np.ascontiguousarray(linear(96, 76, 46) * np.exp(0.25 * coarse + 0.2 * fine)[..., None], np.float32)
    shades = (linear(214, 184, 122), linear(186, 154, 96), linear(150, 120, 74), linear(228, 204, 150))
    _strands(rng, canvas, int(rng.integers(1600, 3200)), shades, (40, 170), 3)
    return canvas


def _strands(
    rng: np.random.Generator,
    canvas: Array,
    count: int,
    shades: tuple[Array, ...],
    length: tuple[int, int],
    thick: int,
) -> None:
    """Straight blades in random directions, each with a dark side, so that a pile of them has depth."""
    start = rng.uniform(-20, TILE + 20, (count, 2))
    angle, reach = rng.uniform(0, np.pi, count), rng.uniform(*length, count)
    end = start + np.stack([np.cos(angle), np.sin(angle)], 1) * reach[:, None]
    fixed = np.round(np.stack([start, end], 1) * 8).astype(int).tolist()
    rising = np.linspace(0.35, 1.15, count) * rng.uniform(0.75, 1.2, count)
    width = rng.integers(1, thick + 1, count).tolist()
    # OpenCV smooths the edges of lines in 8-bit images only; the root keeps their dark tones apart.
    root = np.round(np.sqrt(np.clip(canvas, 0, 1)) * 255).astype(np.uint8)
    shade = rng.integers(len(shades), size=count)
    for i, (a, b) in enumerate(fixed):
        colour = np.sqrt(np.minimum(shades[shade[i]] * rising[i], 1)) * 255
        below = (colour * 0.6).tolist()
        cv2.line(root, (a[0] + 10, a[1] + 10), (b[0] + 10, b[1] + 10), below, width[i], cv2.LINE_AA, 3)
        cv2.line(root, a, b, colour.tolist(), width[i], cv2.LINE_AA, 3)
    canvas[:] = (root.astype(np.float32) / 255) ** 2


def _planks(rng: np.random.Generator, coarse: Array, fine: Array) -> Array:
    shades = ((150, 108, 70), (122, 88, 60), (168, 140, 108), (96, 74, 58), (186, 158, 122))
    base = linear(*shades[int(rng.integers(len(shades)))])
    grain = layered_noise(rng, (TILE, TILE), (4, 60), 5, gain=0.75)
    tile = base * np.exp(0.16 * grain + 0.08 * coarse + 0.05 * fine)[..., None]
    boards = 2 * int(rng.integers(2, 6))  # even, so that the tile joins itself shifted by half a side
    edges = np.linspace(0, TILE, boards + 1)
    column = np.arange(TILE)
    board = np.clip(np.searchsorted(edges, column, side="right") - 1, 0, boards - 1)
    tone = rng.uniform(0.75, 1.2, boards)[board]
    gap = np.minimum(column - edges[board], edges[board + 1] - column)
    tone = tone * (0.2 + 0.8 * smoothstep(1.0, 4.0, gap))
    return tile * tone[None, :, None]


def _concrete(rng: np.random.Generator, coarse: Array, fine: Array) -> Array:
    grey = float(rng.uniform(90, 190))
    base = linear(grey + rng.uniform(-4, 12), grey, grey - rng.uniform(-2, 14))
    return base * np.exp(0.10 * coarse + rng.uniform(0.02, 0.14) * fine)[..., None]


def _leaves(rng: np.random.Generator, coarse: Array, fine: Array) -> Array:
    canvas = _soil(rng, coarse, fine) if rng.random() < 0.5 else _grass(rng, coarse, fine)
    shades = ((176, 98, 34), (150, 70, 28), (190, 146, 50), (120, 78, 44), (160, 120, 66), (96, 62, 40))
    for _ in range(int(rng.integers(60, 420))):
        shape = leaf_outline(rng, rng.uniform(14, 42)) + rng.uniform(0, TILE, 2)
        colour = linear(*shades[int(rng.integers(len(shades)))]) * rng.uniform(0.5, 1.3)
        fixed = np.round(shape * 8).astype(np.int32)
        cv2.fillPoly(canvas, [fixed + 14], (0.3 * colour).tolist(), shift=3)
        cv2.fillPoly(canvas, [fixed], colour.tolist(), shift=3)
        cv2.line(canvas, fixed[0].tolist(), fixed[len(fixed) // 2].tolist(), (0.6 * colour).tolist(), 1, 8, 3)
    return canvas


def leaf_outline(rng: np.random.Generator, length: float) -> Array:
    """(N, 2) outline of a fallen leaf around the origin; its tip and its stalk are points N // 2 and 0."""
    t = np.linspace(0, 2 * np.pi, 33)[:-1]
    lobes = int(rng.choice([0, 3, 5]))
    width = 0.32 * np.abs(np.sin(t)) ** 0.8 * (1 + 0.35 * np.cos(lobes * t * 2) * (lobes > 0))
    outline = np.stack([-np.cos(t) / 2, np.sign(np.sin(t)) * width], 1) * length
    turn = rng.uniform(0, 2 * np.pi)
    return outline @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])


def render_ground(ground: Ground, camera: Camera) -> tuple[Array, Array]:
    """Albedo (h, w, 3) of the plane y = 0 as seen, and its distance (h, w) in metres, inf for sky."""
    width, height = camera.size
    right, up, ahead = (axis.astype(np.float32) for axis in camera.axes)
    across = ((np.arange(width, dtype=np.float32) + 0.5) - width / 2) / camera.focal
    down = ((np.arange(height, dtype=np.float32) + 0.5) - height / 2) / camera.focal
    ray = ahead + across[None, :, None] * right - down[:, None, None] * up
    below = ray[..., 1] < -1e-4
    distance = np.where(below, -camera.position[1] / np.where(below, ray[..., 1], -1), np.inf).astype(np.float32)
    reach = np.where(below, np.minimum(distance, 200), 0)
    x = camera.position[0] + ray[..., 0] * reach
    z = camera.position[2] + ray[..., 2] * reach
    per_metre = TILE / TILE_METRES
    # How many texels a pixel spans, in its long direction, picks between the sharp and the blurred tiles.
    footprint = per_metre * reach / camera.focal / np.maximum(-ray[..., 1], 0.02)
    column, row = np.mod(x * per_metre, TILE), np.mod(z * per_metre, TILE)
    sharp, blurred, faint = (_tiled(level, column, row) for level in ground.levels)
    first = smoothstep(1.5, 8.0, footprint)[..., None]
    second = smoothstep(8.0, 45.0, footprint)[..., None]
    albedo = sharp + (blurred - sharp) * first
    albedo = albedo + (faint - albedo) * second
    patches = _tiled(ground.patches, np.mod(x * per_metre / 6, TILE), np.mod(z * per_metre / 6, TILE))
    return (albedo * patches[..., None]).astype(np.float32), distance


def _tiled(tile: Array, column: Array, row: Array) -> Array:
    return cv2.remap(
        tile, column.astype(np.float32), row.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
    )


def make_backdrop(rng: np.random.Generator, kind: str, size: tuple[int, int], horizon: float) -> Array:
    """What is behind the ground, one of BACKDROPS: linear BGR (height, width, 3), out of focus.

    size: (width, height); horizon: the row where the ground ends.
    """
    width, height = size
    rows = np.arange(height, dtype=np.float32)[:, None]
    rise = np.clip((horizon - rows) / max(height * 0.6, 1), 0, 1)
    if kind in ("field", "hedge"):
        top = linear(*((86, 132, 190), (150, 170, 190), (190, 196, 202))[int(rng.integers(3))])
        low = linear(*((206, 218, 228), (232, 220, 200), (220, 222, 224))[int(rng.integers(3))])
        image = (low + (top - low) * rise[..., None]) * np.ones((1, width, 1), np.float32) * 1.3
        cloud = smoothstep(0.2, 1.8, layered_noise(rng, (height, width), (3, 4), 5))
        image = image + (1.15 - image) * (cloud * rng.uniform(0, 0.7))[..., None]
        layers = int(rng.integers(1, 4))
        for layer in range(layers):
            if kind == "hedge":
                reach = rng.uniform(0.25, 0.9) * height * (1 - 0.25 * layer)
            else:
                reach = rng.uniform(0.02, 0.12) * height * (1.6 - 0.4 * layer)
            line = horizon - reach * (1 + 0.14 * layered_noise(rng, (1, width), (1, 6), 5, gain=0.65))
            leaves = layered_noise(rng, (height, width), (40, 50), 4, gain=0.75)
            greens = ((48, 62, 36), (70, 82, 44), (96, 92, 48), (128, 88, 42), (60, 70, 60))
            tone = linear(*greens[int(rng.integers(len(greens)))]) * rng.uniform(0.6, 1.3)
            grown = smoothstep(-4, 4, rows - line)[..., None]
            image = image * (1 - grown) + tone * np.exp(0.45 * leaves)[..., None] * grown
    elif kind == "wall":
        image = _wall(rng, size)
    else:
        image = _room(rng, size)
    sigma = float(rng.uniform(0.8, 7.0)) * width / 640
    return cv2.GaussianBlur(np.clip(image, 0.003, 1.6).astype(np.float32), (0, 0), sigma)


def _wall(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    width, height = size
    shades = ((206, 200, 186), (150, 82, 62), (172, 168, 160), (120, 134, 140), (96, 72, 54), (216, 208, 170))
    tone = linear(*shades[int(rng.integers(len(shades)))])
    texture = 0.06 * layered_noise(rng, (height, width), (4, 5), 6, gain=0.7)
    image = tone * np.exp(texture)[..., None]
    brick_height = int(height * rng.uniform(0.03, 0.14)) + 4
    brick_width = int(brick_height * rng.uniform(1.8, 3.2))
    if rng.random() < 0.7:
        image = np.ascontiguousarray(image, np.float32)
        joint = (tone * rng.uniform(0.55, 1.4)).tolist()
        for course, y in enumerate(range(0, height, brick_height)):
            for x in range(-(course % 2) * brick_width // 2, width, brick_width):
                block = image[y : y + brick_height, max(x, 0) : x + brick_width]
                block *= np.float32(rng.uniform(0.88, 1.12))
                cv2.line(image, (x, y), (x, y + brick_height), joint, 2)
            cv2.line(image, (0, y), (width, y), joint, 2)
    return image


def _room(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    """Shelves, books, screens: upright blocks of many colours before a plain wall."""
    width, height = size
    image = _wall(rng, size).astype(np.float32)
    image = np.ascontiguousarray(image * rng.uniform(0.4, 1.0))
    for _ in range(int(rng.integers(6, 60))):
        w, h = int(width * rng.uniform(0.02, 0.2)), int(height * rng.uniform(0.05, 0.4))
        x, y = int(rng.integers(-w, width)), int(rng.integers(-h, height))
        tone = linear(*rng.uniform(15, 235, 3)) * 0.8
        if rng.random() < 0.5:
            tone = tone.mean() * np.ones(3, np.float32)
        cv2.rectangle(image, (x, y), (x + w, y + h), tone.tolist(), -1)
        cv2.rectangle(image, (x, y), (x + w, y + h), (0.4 * tone).tolist(), 1)
    return image
