"""Rendered data sets on disk: scenes as JPEG files with COCO annotations, train and val."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pumpseg.errors import DatasetError
from pumpseg_train.dataset.atomic_folder import atomic_folder
from pumpseg_train.dataset.masks import mask_record
from pumpseg_train.progress import Progress
from pumpseg_train.synth.photo_sources import LABEL, NO_PHOTOS, PhotoSources
from pumpseg_train.synth.scene import RenderedScene, render_scene

SPLITS = ("train", "val")


def scene_of(
    seed: int, split: str, index: int, size: tuple[int, int] = (640, 480), photos: PhotoSources = NO_PHOTOS
) -> RenderedScene:
    """The scene at this place of a data set; a longer set thus begins like a shorter one."""
    return render_scene(np.random.default_rng([seed, SPLITS.index(split), index]), size, photos)


def write_dataset(
    out: Path,
    images: int,
    val_images: int | None = None,
    *,
    seed: int = 0,
    size: tuple[int, int] = (640, 480),
    photos: PhotoSources = NO_PHOTOS,
    report: Progress | None = None,
) -> None:
    """Render `out`/{train,val}/images/*.jpg and annotations.json, all or nothing.

    val_images: a tenth of `images` by default, at least 1. size: (width, height) in pixels, each 64 or more.
    photos: see `render_scene`; both splits draw from all of it.
    Raises DatasetError where `out` is not an empty or a new folder, or a number makes no sense.
    """
    if val_images is None:
        val_images = max(1, images // 10)
    if images < 1 or val_images < 1:
        raise DatasetError(f"{images} train and {val_images} val images: each split needs at least 1")
    if min(size) < 64:
        raise DatasetError(f"size {size[0]}x{size[1]}: scenes need at least 64x64 pixels")
    with atomic_folder(out) as unfinished:
        counts = {"train": images, "val": val_images}
        with (report or Progress()).stage("rendering", images + val_images, "images") as advance:
            for split in SPLITS:
                for _ in _write_split(unfinished / split, split, counts[split], seed, size, photos):
                    advance(1)


def _write_split(
    folder: Path, split: str, count: int, seed: int, size: tuple[int, int], photos: PhotoSources
) -> Iterator[None]:
    """Write one split, yielding after each image."""
    (folder / "images").mkdir(parents=True)
    width, height = size
    listed: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(count):
        scene = scene_of(seed, split, index, size, photos)
        name = f"synth_{seed}_{index:06d}.jpg"
        quality = int(np.random.default_rng([seed, SPLITS.index(split), index, 1]).integers(72, 96))
        coded, data = cv2.imencode(".jpg", scene.image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if not coded:
            raise DatasetError(f"OpenCV could not encode {name} as JPEG")
        (folder / "images" / name).write_bytes(data.tobytes())
        listed.append({"id": index + 1, "file_name": name, "width": width, "height": height})
        for mask in scene.masks:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": 1,
                    "iscrowd": 0,
                    **mask_record(mask),
                }
            )
        yield
    truth = {
        "info": {"description": f"Rendered pumpkins, pumpseg-data synth, seed {seed}"},
        "categories": [{"id": 1, "name": LABEL}],
        "images": listed,
        "annotations": annotations,
    }
    (folder / "annotations.json").write_text(json.dumps(truth) + "\n", encoding="utf-8")
