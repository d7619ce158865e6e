"""Photos that scenes can be made with: cut-out pumpkins among the rendered ones, and backgrounds behind them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pumpseg.errors import DatasetError
from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.dataset.class_ids import CROWD
from pumpseg_train.dataset.photo_file import list_images, load_image
from pumpseg_train.samples.scene import MAX_CUTOUT, MIN_CUTOUT, Cutout, cut_out, photo_instances
from pumpseg_train.synth.noise import Array, decode_srgb
from pumpseg_train.synth.solid import Light, Placement, Sprite

LABEL = "pumpkin"

_MAX_BACKGROUND = 1280


@dataclass(frozen=True)
class PhotoSources:
    """cutouts: each is drawn equally often. backgrounds: paths of photos without pumpkins."""

    cutouts: tuple[Cutout, ...] = ()
    backgrounds: tuple[Path, ...] = ()


NO_PHOTOS = PhotoSources()


def load_photo_sources(cutouts: Iterable[Path], backgrounds: Iterable[Path]) -> PhotoSources:
    """Cuts the pumpkins out of folders with annotations.json + images/, and lists the images of `backgrounds`.

    Raises DatasetError for a folder that has none.
    """
    found: list[Cutout] = []
    for folder in cutouts:
        before = len(found)
        source = read_dataset(folder)
        for photo in source.photos:
            image, instances = photo_instances(photo)
            found += [
                cut_out(image, instance, MAX_CUTOUT)
                for instance in instances
                if instance.class_id != CROWD
                and source.classes[instance.class_id - 1] == LABEL
                and max(instance.mask.shape) >= MIN_CUTOUT
            ]
        if len(found) == before:
            raise DatasetError(f"{folder} has no {LABEL} of {MIN_CUTOUT} pixels or more to cut out")
    return PhotoSources(tuple(found), tuple(path for folder in backgrounds for path in list_images(folder)))


def draw_background(rng: np.random.Generator, paths: tuple[Path, ...], size: tuple[int, int]) -> Array:
    """A random piece of one of the photos, mirrored or not: linear BGR float32 (height, width, 3)."""
    width, height = size
    photo = load_image(paths[int(rng.integers(len(paths)))], _MAX_BACKGROUND)[..., ::-1]
    rows, columns = photo.shape[:2]
    scale = max(width / columns, height / rows) * float(np.exp(rng.uniform(0, np.log(1.6))))
    rows, columns = max(height, round(rows * scale)), max(width, round(columns * scale))
    large = cv2.resize(photo, (columns, rows), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = int(rng.integers(rows - height + 1)), int(rng.integers(columns - width + 1))
    piece = large[top : top + height, left : left + width]
    return decode_srgb(piece[:, ::-1] if rng.random() < 0.5 else piece)


def cutout_sprite(cutout: Cutout, mirrored: bool, placement: Placement, light: Light) -> Sprite:
    """The cut-out as large as the ball of one body unit at its place, in the light of the scene."""
    alpha = cutout.alpha.astype(np.float32) / 255
    gain = light.key * np.float32(max(light.direction[1], 0.1)) + light.sky
    # One carrier, so that colour is premultiplied by exactly the alpha of the pixel.
    carrier = np.dstack([decode_srgb(cutout.image[..., ::-1]) * gain * alpha[..., None], alpha])
    if mirrored:
        carrier = carrier[:, ::-1]
    scale = 2 * placement.scale / max(alpha.shape)
    size = max(1, round(alpha.shape[1] * scale)), max(1, round(alpha.shape[0] * scale))
    small = cv2.resize(carrier, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    origin = round(placement.centre[0] - size[0] / 2), round(placement.centre[1] - size[1] / 2)
    return Sprite(np.ascontiguousarray(small[..., :3]), np.ascontiguousarray(small[..., 3]), origin)
