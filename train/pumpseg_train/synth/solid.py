"""Ray casting and shading of star-shaped solids: surfaces given as a radius for every direction.

World axes: x to the right, y up, z away from the camera. Body axes: z is the axis of the solid (the stem of a
pumpkin), and its skin is a longitude-latitude map whose rows run from the +z pole to the -z pole.
"""

import functools
from dataclasses import dataclass

import cv2
import numpy as np

from pumpseg_train.synth.noise import Array, smoothstep

MAP_ROWS, MAP_COLUMNS = 192, 768
SUPERSAMPLING = 2
SHORTEST_STEP = np.float32(0.012)
"""Body units that a ray goes at least, so that one grazing a rib gets past it within its steps."""
WALL = 0.86
"""Radius of the inner side of a carved wall, as a part of the outer radius."""


@dataclass(frozen=True)
class Light:
    """Sun, sky and the light thrown back by the ground: BGR float32 (3,) linear intensities."""

    direction: Array
    """Unit vector towards the sun, world axes."""
    key: Array
    sky: Array
    bounce: Array
    softness: float
    """0 for a clear sun, 1 for an overcast sky: the width of the edge of the shadows."""


@dataclass(frozen=True)
class Skin:
    """A star-shaped surface as longitude-latitude maps of MAP_ROWS x MAP_COLUMNS, float32."""

    radius: Array
    normal: Array
    """(rows, columns, 3) unit normals, body axes."""
    albedo: Array
    """(rows, columns, 3) linear BGR."""
    occlusion: Array
    """1 in the open, towards 0 deep in a groove."""
    gloss: Array
    hole: Array | None = None
    """1 where the wall is cut through, else 0."""
    glow: Array | None = None
    """Linear BGR light that comes out of the holes, float32 (3,)."""

    @property
    def reach(self) -> float:
        """Radius of the smallest centred ball that holds the solid."""
        return float(self.radius.max())


@dataclass(frozen=True)
class Placement:
    """Where a solid is and how it is seen."""

    position: Array
    """Centre, world axes, float (3,)."""
    size: float
    """World length of one body unit."""
    rotation: Array
    """(3, 3), body axes to world axes."""
    view: Array
    """(3, 3), rows: right, up and forward of the image plane, world axes."""
    centre: tuple[float, float]
    """Image position (x, y) of the centre in pixels; pixel (0, 0) spans 0 to 1."""
    scale: float
    """Pixels per body unit."""
    window: tuple[int, int] | None = None
    """Image size (width, height); parts outside are not rendered. None: the whole solid."""
    neighbours: tuple[tuple[Array, float], ...] = ()
    """Balls (centre, radius) in world axes that throw shadow on this solid."""


@dataclass
class Sprite:
    """A rendered solid: linear BGR float32 premultiplied by alpha (h, w, 3), alpha float32 (h, w)."""

    colour: Array
    alpha: Array
    origin: tuple[int, int]
    """Image (x, y) of the top-left pixel."""

    @property
    def mask(self) -> Array:
        """bool (h, w): pixels at least half covered."""
        return self.alpha >= 0.5


@dataclass
class Hits:
    """What each ray of a supersampled grid met; arrays over the grid (rows, columns)."""

    depth: Array
    """Distance along the ray in body units, inf where nothing is met."""
    colour: Array


@functools.cache
def direction_map() -> tuple[Array, Array, Array]:
    """colatitude (rows, 1), longitude (1, columns), unit vectors (rows, columns, 3) of the map's cells; read-only."""
    colatitude = np.linspace(1e-4, np.pi - 1e-4, MAP_ROWS, dtype=np.float32)[:, None]  # sines stay positive
    longitude = (np.arange(MAP_COLUMNS, dtype=np.float32) * np.float32(2 * np.pi / MAP_COLUMNS))[None]
    unit = np.stack(
        np.broadcast_arrays(
            np.sin(colatitude) * np.cos(longitude), np.sin(colatitude) * np.sin(longitude), np.cos(colatitude)
        ),
        axis=-1,
    )
    return colatitude, longitude, unit.astype(np.float32)


def normals(radius: Array) -> Array:
    """Outward unit normals of r = radius(direction): r e_r - dr/dv e_v - dr/du / sin(v) e_u, normalised."""
    colatitude, longitude, unit = direction_map()
    step_v, step_u = np.pi / (MAP_ROWS - 1), 2 * np.pi / MAP_COLUMNS
    by_v = np.gradient(radius, step_v, axis=0)
    by_u = (np.roll(radius, -1, axis=1) - np.roll(radius, 1, axis=1)) / (2 * step_u)
    # Rounded at the poles, where the map is singular.
    by_u = by_u / np.maximum(np.sin(colatitude), 0.08)
    sin_v, cos_v = np.sin(colatitude), np.cos(colatitude)
    sin_u, cos_u = np.sin(longitude), np.cos(longitude)
    e_v = np.stack(np.broadcast_arrays(cos_v * cos_u, cos_v * sin_u, -sin_v), axis=-1)
    e_u = np.stack(np.broadcast_arrays(-sin_u, cos_u, np.zeros_like(colatitude)), axis=-1)
    normal = radius[..., None] * unit - by_v[..., None] * e_v - by_u[..., None] * e_u
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    return normal.astype(np.float32)


def _sample(table: Array, x: Array, y: Array) -> Array:
    """Bilinear look-up at the flat map coordinates x, y; the right edge of the map meets the left one."""
    count = len(x)
    columns = 1024  # cv2.remap takes no side beyond 32767, so long lists are folded into rows
    rows = -(-count // columns)
    grid_x = np.zeros(rows * columns, np.float32)
    grid_y = np.zeros(rows * columns, np.float32)
    grid_x[:count], grid_y[:count] = x, y
    wrapped = np.concatenate([table, table[:, :1]], axis=1)
    out = cv2.remap(
        wrapped,
        grid_x.reshape(rows, columns),
        grid_y.reshape(rows, columns),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return out.reshape(rows * columns, *table.shape[2:])[:count]


def _map_coordinates(point: Array) -> tuple[Array, Array, Array]:
    """Points (3, N) to map column, map row and distance from the centre."""
    x, y, z = point
    across = np.sqrt(x * x + y * y)
    longitude = np.arctan2(y, x)
    longitude = np.where(longitude < 0, longitude + np.float32(2 * np.pi), longitude)
    column = longitude * np.float32(MAP_COLUMNS / (2 * np.pi))
    row = np.arctan2(across, z) * np.float32((MAP_ROWS - 1) / np.pi)
    return column, row, np.sqrt(across * across + z * z)


def _march(radius: Array, origin: Array, ray: Array, start: Array, end: Array, steps: int) -> Array:
    """Distance along each ray to the surface, inf for a miss; origin (3, N), ray (3,), start and end (N,)."""
    depth = np.full(len(start), np.inf, np.float32)
    if len(start) == 0:
        return depth
    index = np.arange(len(start))
    t = start.astype(np.float32)
    outside, inside = t - np.float32(0.1), np.full_like(t, np.inf)
    ray_column = ray[:, None]
    for _ in range(steps):
        column, row, distance = _map_coordinates(origin[:, index] + t * ray_column)
        gap = distance - _sample(radius, column, row)
        outside = np.where(gap > 0, t, outside)
        inside = np.where(gap > 0, inside, t)
        arrived = (np.abs(gap) < 0.0015) | (inside - outside < 0.002)
        depth[index[arrived]] = t[arrived]
        # The gap overstates the free way where the surface is steep against its direction: go 0.7 of it,
        # and halve the bracket once the ray is in (a groove can be too sharp for the other steps to settle).
        t = np.where(np.isfinite(inside), 0.5 * (outside + inside), t + np.maximum(0.7 * gap, SHORTEST_STEP))
        keep = ~arrived & (t < end[index])
        index, t, outside, inside, gap = index[keep], t[keep], outside[keep], inside[keep], gap[keep]
        if len(index) == 0:
            break
    grazing = np.isfinite(inside) | (gap < 0.02)
    depth[index[grazing]] = t[grazing]
    return depth


def grid_of(placement: Placement, reach: float) -> tuple[tuple[int, int], Array, Array]:
    """Origin (x, y) of the sprite, and the sample coordinates in body units: right (columns,), up (rows,)."""
    x, y = placement.centre
    extent = reach * placement.scale + 1
    left, top = int(np.floor(x - extent)), int(np.floor(y - extent))
    right, bottom = int(np.ceil(x + extent)), int(np.ceil(y + extent))
    if placement.window is not None:
        # At least one pixel stays, so that a solid out of sight is a blank sprite and no special case.
        left, right = min(max(left, -2), placement.window[0] + 1), min(right, placement.window[0] + 2)
        top, bottom = min(max(top, -2), placement.window[1] + 1), min(bottom, placement.window[1] + 2)
        right, bottom = max(right, left + 1), max(bottom, top + 1)
    offset = (np.arange((right - left) * SUPERSAMPLING) + 0.5) / SUPERSAMPLING
    across = (left + offset - x) / placement.scale
    offset = (np.arange((bottom - top) * SUPERSAMPLING) + 0.5) / SUPERSAMPLING
    up = -(top + offset - y) / placement.scale
    return (left, top), across.astype(np.float32), up.astype(np.float32)


def cast(skin: Skin, placement: Placement, light: Light, across: Array, up: Array) -> Hits:
    """Cast one parallel ray per sample of the grid and shade what it meets.

    A coarse pass on every fourth sample finds a start for each fine ray just before the surface.
    """
    to_body = placement.rotation.T @ placement.view.T
    right_axis, up_axis, ray = (to_body[:, i].astype(np.float32) for i in range(3))
    reach = np.float32(skin.reach)

    def origins(right: Array, upward: Array) -> Array:
        return right_axis[:, None] * right.ravel() + up_axis[:, None] * upward.ravel()

    def chord(right: Array, upward: Array) -> Array:
        return np.sqrt(np.maximum(reach**2 - right.ravel() ** 2 - upward.ravel() ** 2, 0))

    coarse = 4

    def thinned(axis: Array) -> Array:
        return axis[np.minimum(np.arange(0, len(axis), coarse) + coarse // 2, len(axis) - 1)]

    grid = np.meshgrid(thinned(across), thinned(up))
    half = chord(*grid)
    first = _march(skin.radius, origins(*grid), ray, -half, half, steps=24).reshape(grid[0].shape)
    first = np.where(np.isfinite(first), first, np.float32(9))
    nearest = cv2.erode(first, np.ones((3, 3), np.uint8), borderValue=9)
    start = cv2.resize(nearest, None, fx=coarse, fy=coarse, interpolation=cv2.INTER_NEAREST)
    rows, columns = len(up), len(across)
    start = start[:rows, :columns]

    candidate = np.flatnonzero(start < 9)
    grid_x, grid_y = np.meshgrid(across, up)
    right, upward = grid_x.ravel()[candidate], grid_y.ravel()[candidate]
    origin = origins(right, upward)
    begin = np.maximum(start.ravel()[candidate] - 0.04, -chord(right, upward))
    t = _march(skin.radius, origin, ray, begin, chord(right, upward), steps=24)
    hit = np.isfinite(t)

    depth = np.full(rows * columns, np.inf, np.float32)
    colour = np.zeros((rows * columns, 3), np.float32)
    if hit.any():
        where = candidate[hit]
        depth[where] = t[hit]
        point = origin[:, hit] + t[hit] * ray[:, None]
        colour[where] = _shade_skin(skin, placement, light, point, ray)
    return Hits(depth.reshape(rows, columns), colour.reshape(rows, columns, 3))


def _shade_skin(skin: Skin, placement: Placement, light: Light, point: Array, ray: Array) -> Array:
    column, row, _ = _map_coordinates(point)
    turn = placement.rotation.astype(np.float32)
    normal = _sample(skin.normal, column, row) @ turn.T
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    albedo = _sample(skin.albedo, column, row)
    occlusion = _sample(skin.occlusion, column, row)
    gloss = _sample(skin.gloss, column, row)
    world = (turn @ point).T
    colour = shade(normal, albedo, occlusion, gloss, world, placement, light)
    if skin.hole is not None and skin.glow is not None:
        cut = _sample(skin.hole, column, row) > 0.5
        if cut.any():
            colour[cut] = _inside(skin, point[:, cut], ray, colour[cut])
    return colour


def _inside(skin: Skin, point: Array, ray: Array, outer: Array) -> Array:
    """Colour seen through a hole: the cut wall where the ray ends in it, else the lit hollow behind."""
    assert skin.hole is not None and skin.glow is not None
    t = np.zeros(point.shape[1], np.float32)
    for _ in range(6):
        column, row, distance = _map_coordinates(point + t * ray[:, None])
        t += 0.8 * (distance - WALL * _sample(skin.radius, column, row))
    through = _sample(skin.hole, column, row) > 0.5
    flesh = np.array([0.12, 0.42, 0.75], np.float32)
    brightness = outer.mean(axis=1, keepdims=True)
    wall = flesh * (0.25 * brightness + 0.35 * skin.glow.mean()) + 0.5 * skin.glow * flesh
    # The candle is low in the middle: the hollow is brightest below.
    height = np.clip(0.5 - 0.6 * (point + t * ray[:, None])[2], 0.15, 1)[:, None]
    hollow = skin.glow * height + np.array([0.004, 0.006, 0.010], np.float32)
    return np.where(through[:, None], hollow, wall).astype(np.float32)


def shade(
    normal: Array,
    albedo: Array,
    occlusion: Array,
    gloss: Array,
    world: Array,
    placement: Placement,
    light: Light,
) -> Array:
    """Linear BGR (N, 3) of surface points: sun, sky dome, ground bounce and a broad highlight.

    normal, world: (N, 3), world axes, world in body units from the centre; albedo: (N, 3);
    occlusion, gloss: (N,).
    """
    sun = light.direction.astype(np.float32)
    facing = normal @ sun
    visible = smoothstep(-0.05, 0.12 + 0.3 * light.softness, facing) * np.clip(facing, 0.02, 1)
    open_sky: Array = occlusion
    place = placement.position.astype(np.float32)
    absolute = world * np.float32(placement.size) + place
    for centre, ball in placement.neighbours:
        towards = centre.astype(np.float32) - absolute
        distance2 = np.einsum("ij,ij->i", towards, towards)
        if np.sqrt(distance2.min()) < 5 * ball:
            along = towards @ sun
            across = np.sqrt(np.maximum(distance2 - along**2, 0)) / ball
            edge = 0.12 + 0.5 * light.softness
            shadow = (1 - smoothstep(0.95 - edge, 0.95 + edge, across)) * (along > 0)
            visible = visible * (1 - shadow)
            distance = np.sqrt(distance2)
            cosine = np.einsum("ij,ij->i", normal, towards) / distance
            open_sky = open_sky * (1 - 0.75 * np.clip(cosine, 0, 1) * np.minimum((ball / distance) ** 2, 1))
    # Near the ground the lower side sees little light: the ground is in the solid's own shadow.
    low = np.clip(absolute[:, 1] / max(placement.size, 1e-6), 0, 1.2) / 1.2
    grounded = 0.30 + 0.70 * smoothstep(0.0, 1.0, low)
    open_sky = open_sky * (1 - (1 - grounded) * (0.5 - 0.5 * normal[:, 1]))
    dome = (0.5 + 0.5 * normal[:, 1])[:, None]
    ambient = (dome * light.sky + (1 - dome) * light.bounce * grounded[:, None]) * open_sky[:, None]
    diffuse = albedo * (light.key * visible[:, None] + ambient)

    toward_eye = -placement.view[2].astype(np.float32)
    half = sun + toward_eye
    half = half / np.linalg.norm(half)
    glint = np.clip(normal @ half, 0, 1)
    highlight = (0.30 * glint**24 + 0.10 * glint**90) * visible * gloss
    rim = (1 - np.clip(normal @ toward_eye, 0.1, 1)) ** 4 * gloss * open_sky
    mirrored_sky = (0.03 * gloss * open_sky * np.clip(normal[:, 1] + 0.2, 0, 1) + 0.10 * rim)[:, None] * light.sky
    return (diffuse + highlight[:, None] * light.key + mirrored_sky).astype(np.float32)


def to_sprite(hits: Hits, origin: tuple[int, int]) -> Sprite:
    """Average the supersampled grid down to pixels and trim the empty border."""
    covered = np.isfinite(hits.depth)
    # One carrier, so that colour is premultiplied by exactly the alpha of the pixel.
    carrier = np.dstack([np.where(covered[..., None], hits.colour, 0), covered.astype(np.float32)])
    rows, columns = covered.shape
    small = cv2.resize(
        carrier.astype(np.float32),
        (columns // SUPERSAMPLING, rows // SUPERSAMPLING),
        interpolation=cv2.INTER_AREA,
    )
    alpha = small[..., 3]
    filled_rows, filled_columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    if len(filled_rows) == 0:
        return Sprite(np.zeros((1, 1, 3), np.float32), np.zeros((1, 1), np.float32), origin)
    top, bottom = filled_rows[0], filled_rows[-1] + 1
    left, right = filled_columns[0], filled_columns[-1] + 1
    small = small[top:bottom, left:right]
    return Sprite(
        np.ascontiguousarray(small[..., :3]),
        np.ascontiguousarray(small[..., 3]),
        (origin[0] + int(left), origin[1] + int(top)),
    )


def rotation(axis: Array, angle: float) -> Array:
    """(3, 3) rotation by angle radians about axis (any length), Rodrigues' formula."""
    matrix, _ = cv2.Rodrigues(np.asarray(axis, np.float64) / np.linalg.norm(axis) * angle)
    return matrix


UPRIGHT = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""Body axes to world axes of a pumpkin that stands on the ground: body +z is world +y, body -y faces away."""
