"""A clip of pumpkins that roll past others at rest, with its exact masks."""

import itertools
import json
import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from pumpseg.atomic_file import check_names, complete_file
from pumpseg.errors import SinkError
from pumpseg_train.dataset.masks import mask_record
from pumpseg_train.progress import Progress
from pumpseg_train.synth.film import Film, develop, metered
from pumpseg_train.synth.ground import Camera, Ground, make_backdrop, make_ground, render_ground
from pumpseg_train.synth.noise import Array
from pumpseg_train.synth.pumpkin import Pumpkin, make_pumpkin, render_pumpkin
from pumpseg_train.synth.scene import compose, lit_ground, place
from pumpseg_train.synth.solid import UPRIGHT, Light, rotation

QUALITY = 23
"""libx264's crf: the shipped five seconds stay well below 1.2 MB."""
MARGIN = 1.6
"""How much wider than the camera sees the background is painted, for the drift."""
ACT_SECONDS = 20.0
"""After this time the scenario "crossing" begins again, with other pumpkins."""


@dataclass(frozen=True)
class RenderedFrame:
    """image: uint8 BGR (h, w, 3); masks: pumpkin id to its visible part, bool (h, w)."""

    image: Array
    masks: dict[int, Array]


@dataclass(frozen=True)
class Actor:
    """A pumpkin and its way: from `start` (x, z) in metres with `velocity` (x, z) in metres a second."""

    pumpkin: Pumpkin
    size: float
    start: tuple[float, float]
    velocity: tuple[float, float]
    pose: Array
    """(3, 3) body-to-world rotation at time 0."""
    track_id: int

    def at(self, time: float) -> tuple[tuple[float, float], Array]:
        """Ground position (x, z) and rotation at `time` seconds: it rolls without slipping."""
        way = np.array(self.velocity) * time
        spot = (self.start[0] + float(way[0]), self.start[1] + float(way[1]))
        speed = float(np.hypot(*self.velocity))
        if speed == 0:
            return spot, self.pose
        # Rolling along v turns about the horizontal axis (v_z, 0, -v_x), once around per circumference.
        axis = np.array([self.velocity[1], 0.0, -self.velocity[0]]) / speed
        return spot, rotation(axis, speed * time / (0.92 * self.size)) @ self.pose


@dataclass(frozen=True)
class Stage:
    """All that does not change in a clip."""

    actors: tuple[Actor, ...]
    ground: Ground
    backdrop: Array
    light: Light
    film: Film
    seconds: float
    size: tuple[int, int]


def make_stage(seed: int, seconds: float, size: tuple[int, int], scenario: str = "passing") -> Stage:
    """Choose pumpkins, ways, ground and light for a clip of `seconds`, `size` (width, height) pixels.

    scenario: one of SCENARIOS.
    """
    rng = np.random.default_rng([seed, 7])
    sun = np.array([-0.55, 0.72, -0.42])
    light = Light(
        sun / np.linalg.norm(sun),
        key=np.array([0.80, 0.93, 1.0], np.float32) * np.float32(2.3),
        sky=np.array([1.12, 1.0, 0.92], np.float32) * np.float32(0.62),
        bounce=np.array([0.65, 0.85, 1.0], np.float32) * np.float32(0.28),
        softness=0.2,
    )
    film = Film(1.0, np.array([0.97, 1.0, 1.03], np.float32), blur=0.45, noise=0.004, vignette=0.2)
    width, height = size
    camera = camera_at(0.0, seconds, size)
    backdrop = make_backdrop(rng, "field", (int(width * MARGIN), int(height * MARGIN)), _painted_horizon(camera))
    ground = make_ground(rng, "straw")
    return Stage(tuple(SCENARIOS[scenario](rng, seconds)), ground, backdrop, light, film, seconds, size)


def _passing(rng: np.random.Generator, seconds: float) -> Iterator[Actor]:
    """Three at rest, and one rolling past every second, in turn from the left and the right."""
    track_ids = itertools.count(1)
    for x, z, size in ((-0.66, 2.95, 0.24), (0.74, 2.95, 0.21), (0.10, 3.95, 0.27)):
        yield _standing(rng, next(track_ids), x, z, size)
    lanes = (2.0, 3.45, 1.6, 2.45)
    passes = max(2, round(seconds * 1.0))
    for i in range(passes):
        z = lanes[i % len(lanes)] + rng.normal(0, 0.02)
        side = -1.0 if i % 2 == 0 else 1.0
        speed = rng.uniform(0.75, 1.05)
        size = rng.uniform(0.16, 0.2)
        middle_of_pass = (i + 0.35 + rng.uniform(-0.1, 0.1)) * seconds / passes
        drift = rng.normal(0, 0.02)
        yield _rolling(rng, next(track_ids), size, z, (-side * speed, drift), middle_of_pass, classic=i % 3 != 2)


def _crossing(rng: np.random.Generator, seconds: float) -> Iterator[Actor]:
    """What makes a tracker lose or swap its objects: see the comments. Ten pumpkins in ACT_SECONDS."""
    track_ids = itertools.count(1)
    for x, z, size in ((-0.62, 3.0, 0.26), (0.55, 3.1, 0.22)):
        yield _standing(rng, next(track_ids), x, z, size)
    for act in range(math.ceil(seconds / ACT_SECONDS)):
        for middle_of_pass, z, speed, size in (
            # Two meet, and the far one is hidden for a moment.
            (2.0, 2.1, 0.60, 0.22),
            (2.0, 2.62, -0.55, 0.14),
            # One overtakes another, which stays hidden for about a second.
            (8.0, 2.1, 0.75, 0.22),
            (8.0, 2.62, 0.38, 0.14),
            # One rolls behind both that stand.
            (11.5, 3.6, 0.50, 0.15),
            # One follows another out of the picture, where a third comes in.
            (14.5, 2.3, 0.70, 0.17),
            (15.2, 2.3, 0.70, 0.17),
            (19.6, 2.75, -0.60, 0.15),
        ):
            velocity = (speed * (1 + rng.normal(0, 0.03)), 0.0)
            yield _rolling(rng, next(track_ids), size, z, velocity, act * ACT_SECONDS + middle_of_pass, classic=True)


SCENARIOS: dict[str, Callable[[np.random.Generator, float], Iterator[Actor]]] = {
    "passing": _passing,
    "crossing": _crossing,
}


def _standing(rng: np.random.Generator, track_id: int, x: float, z: float, size: float) -> Actor:
    spin = rotation(np.array([0, 1, 0]), rng.uniform(0, 2 * np.pi))
    pose = rotation(np.array([1, 0, 0.4]), rng.normal(0, 0.08)) @ spin @ UPRIGHT
    pumpkin = make_pumpkin(rng, carved=False, classic=True)
    return Actor(pumpkin, size, (x + rng.normal(0, 0.05), z), (0.0, 0.0), pose, track_id)


def _rolling(
    rng: np.random.Generator,
    track_id: int,
    size: float,
    z: float,
    velocity: tuple[float, float],
    middle_of_pass: float,
    *,
    classic: bool,
) -> Actor:
    """One that rolls through x = 0 at depth z at the time middle_of_pass, in seconds."""
    start = (-velocity[0] * middle_of_pass, z - velocity[1] * middle_of_pass)
    # The stem points to the side, a little off the axis it rolls about: a round way, and a wobble.
    lean = rotation(np.array([0.0, 1.0, 0.0]), rng.uniform(-0.6, 0.6))
    tilt = rotation(np.array([1.0, 0.0, 0.0]), (-np.pi / 2 if rng.random() < 0.7 else np.pi / 2) + rng.normal(0, 0.25))
    pumpkin = make_pumpkin(rng, carved=False, classic=classic)
    return Actor(pumpkin, size, start, velocity, lean @ tilt @ UPRIGHT, track_id)


def camera_at(time: float, seconds: float, size: tuple[int, int]) -> Camera:
    """The camera drifts to the right and turns back a little."""
    phase = time / max(seconds, 1e-6) - 0.5
    position = np.array([0.22 * phase, 0.92 + 0.02 * np.sin(2.2 * time), 0.0])
    return Camera(position, 0.22, -0.05 * phase, size[0] * 1.2, size)


def _painted_horizon(camera: Camera) -> float:
    """Row of the horizon in the background, which is larger than the image by MARGIN."""
    return camera.horizon + (MARGIN - 1) / 2 * camera.size[1]


def _backdrop_of(stage: Stage, camera: Camera) -> Array:
    """The part of the painted background that the camera sees: far away, it moves with the yaw alone."""
    width, height = stage.size
    shift = camera.focal * np.tan(camera.yaw) + (MARGIN - 1) / 2 * width
    rise = _painted_horizon(camera_at(0.0, stage.seconds, stage.size)) - camera.horizon
    transform = np.array([[1, 0, shift], [0, 1, rise]], np.float64)
    return cv2.warpAffine(
        stage.backdrop,
        transform,
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def render_frame(stage: Stage, time: float, exposure: float, rng: np.random.Generator) -> RenderedFrame:
    """The picture at `time` seconds and who is where in it."""
    camera = camera_at(time, stage.seconds, stage.size)
    staged = []
    for actor in stage.actors:
        spot, turn = actor.at(time)
        placement, outline = place(camera, spot, actor.size, turn, actor.pumpkin.support)
        staged.append((actor, placement, outline))
    staged.sort(key=lambda entry: -float((entry[1].position - camera.position) @ camera.axes[2]))
    sprites, labels = [], []
    for actor, placement, _ in staged:
        x, _y = placement.centre
        if not -1.5 * placement.scale < x < stage.size[0] + 1.5 * placement.scale:
            continue
        near = tuple((other.position, other.size * 0.9) for _, other, _ in staged if other is not placement)
        sprites.append(render_pumpkin(actor.pumpkin, replace(placement, neighbours=near), stage.light))
        labels.append(actor.track_id)
    albedo, distance = render_ground(stage.ground, camera)
    outlines = [outline for _, _, outline in staged]
    image = lit_ground(camera, stage.light, albedo, distance, _backdrop_of(stage, camera), outlines)
    owner = compose(image, sprites, labels)
    masks = {track_id: owner == track_id for track_id in sorted(labels)}
    photo = develop(image, stage.film, exposure, rng)
    return RenderedFrame(photo, {track_id: mask for track_id, mask in masks.items() if mask.any()})


def render_clip(
    seconds: float = 5.0,
    fps: int = 24,
    seed: int = 0,
    size: tuple[int, int] = (640, 480),
    scenario: str = "passing",
) -> Iterator[RenderedFrame]:
    """All frames of a clip, one after another; the same arguments give the same pixels."""
    stage = make_stage(seed, seconds, size, scenario)
    camera = camera_at(0.0, seconds, size)
    albedo, distance = render_ground(stage.ground, camera)
    exposure = metered(lit_ground(camera, stage.light, albedo, distance, _backdrop_of(stage, camera), []))
    rng = np.random.default_rng([seed, 8])
    for index in range(max(1, round(seconds * fps))):
        yield render_frame(stage, index / fps, exposure, rng)


def write_clip(
    path: Path,
    *,
    seconds: float = 5.0,
    fps: int = 24,
    seed: int = 0,
    size: tuple[int, int] = (640, 480),
    scenario: str = "passing",
    truth: Path | None = None,
    progress: Progress | None = None,
) -> None:
    """Render a clip to an H.264 file (yuv420p, playable while it loads), all or nothing.

    size: (width, height) in pixels, even and 64 or more. scenario: one of SCENARIOS.
    truth: a file for one JSON line a frame: {"frame", "time" (seconds), "width", "height",
    "instances": [{"id", "class", "bbox", "area", "segmentation"}]}.
    Raises SinkError where a number makes no sense or a file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise SinkError(f"{path}: the clip is an mp4 file, name it *.mp4")
    if not 0 < seconds <= 600 or not 1 <= fps <= 240:
        raise SinkError(f"{seconds} s at {fps} frames/s: expected up to 600 s and 1 to 240 frames/s")
    if min(size) < 64 or size[0] % 2 or size[1] % 2:
        raise SinkError(f"size {size[0]}x{size[1]}: H.264 needs even sides, and a clip at least 64x64 pixels")
    check_names([path] if truth is None else [path, Path(truth)], [])
    total = max(1, round(seconds * fps))
    lines = []
    with (
        complete_file(path) as unfinished,
        nullcontext() if truth is None else complete_file(Path(truth)) as unfinished_truth,
        (progress or Progress()).stage("rendering", total, "frames") as advance,
    ):
        with av.open(f"file:{unfinished}", "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=fps, options={"crf": str(QUALITY), "preset": "slow"})
            stream.width, stream.height = size
            stream.pix_fmt = "yuv420p"
            stream.time_base = Fraction(1, fps)
            for index, frame in enumerate(render_clip(seconds, fps, seed, size, scenario)):
                picture = av.VideoFrame.from_ndarray(frame.image, format="bgr24")
                picture.pts = index
                container.mux(stream.encode(picture))
                lines.append(json.dumps(_truth_line(index, fps, size, frame)))
                advance(1)
            container.mux(stream.encode())
        if unfinished_truth is not None:
            unfinished_truth.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _truth_line(index: int, fps: int, size: tuple[int, int], frame: RenderedFrame) -> dict[str, Any]:
    return {
        "frame": index,
        "time": round(index / fps, 6),
        "width": size[0],
        "height": size[1],
        "instances": [{"id": i, "class": "pumpkin", **mask_record(mask)} for i, mask in frame.masks.items()],
    }
