"""Rendered data sets on disk: scenes as JPEG files with COCO annotations, train and val."""

import contextlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pumpseg.errors import DatasetError
from pumpseg.inference.threads import usable_cores
from pumpseg_train.dataset.atomic_folder import atomic_folder
from pumpseg_train.dataset.masks import mask_record
from pumpseg_train.progress import Advance, Progress
from pumpseg_train.synth.photo_sources import LABEL, NO_PHOTOS, PhotoSources
from pumpseg_train.synth.scene import RenderedScene, render_scene
from pumpseg_train.worker_process import WorkerPool

SPLITS = ("train", "val")


@dataclass(frozen=True)
class SceneRenderer:
    """Renders the scenes of a data set. Each depends on its place and the seed only: a longer set begins like a
    shorter one. size: (width, height) in pixels."""

    seed: int
    size: tuple[int, int] = (640, 480)
    photos: PhotoSources = NO_PHOTOS

    def scene(self, split: str, index: int) -> RenderedScene:
        return render_scene(self._rng(split, index), self.size, self.photos)

    def files(self, split: str, index: int) -> tuple[bytes, list[dict[str, Any]]]:
        """A scene as JPEG and the COCO fields of its masks."""
        scene = self.scene(split, index)
        quality = int(self._rng(split, index, 1).integers(72, 96))
        coded, data = cv2.imencode(".jpg", scene.image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if not coded:
            raise DatasetError(f"OpenCV could not encode scene {index} of {split} as JPEG")
        return data.tobytes(), [mask_record(mask) for mask in scene.masks]

    def _rng(self, split: str, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, SPLITS.index(split), *numbers])


def write_dataset(
    out: Path,
    images: int,
    val_images: int | None = None,
    *,
    seed: int = 0,
    size: tuple[int, int] = (640, 480),
    photos: PhotoSources = NO_PHOTOS,
    workers: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Render `out`/{train,val}/images/*.jpg and annotations.json, all or nothing.

    val_images: a tenth of `images` by default, at least 1. size: (width, height) in pixels, each 64 or more.
    photos: see `render_scene`; both splits draw from all of it. workers: processes that render, one per core by
    default; the files do not depend on it.
    Raises DatasetError where `out` is not an empty or a new folder, or a number is out of range.
    """
    if val_images is None:
        val_images = max(1, images // 10)
    if images < 1 or val_images < 1:
        raise DatasetError(f"{images} train and {val_images} val images: each split needs at least 1")
    if min(size) < 64:
        raise DatasetError(f"size {size[0]}x{size[1]}: scenes need at least 64x64 pixels")
    total = images + val_images
    with (
        atomic_folder(out) as unfinished,
        _renderer(SceneRenderer(seed, size, photos), min(workers or usable_cores(), total)) as render,
        (progress or Progress()).stage("rendering", total, "images") as advance,
    ):
        for split, count in zip(SPLITS, (images, val_images), strict=True):
            _write_split(unfinished / split, split, count, seed, size, render, advance)


Render = Callable[[str, int], Iterator[tuple[bytes, list[dict[str, Any]]]]]


@contextlib.contextmanager
def _renderer(renderer: SceneRenderer, workers: int) -> Iterator[Render]:
    """Yields what renders the first scenes of a split in their order, in processes where there are several."""
    if workers == 1:
        yield lambda split, count: (renderer.files(split, index) for index in range(count))
        return
    pool = WorkerPool(workers, _set_renderer, renderer)
    try:
        yield lambda split, count: pool.map(_files_of_process, [split] * count, range(count))
    except BrokenProcessPool:
        raise DatasetError("a worker process was killed, or ran out of memory: use fewer --workers") from None
    finally:
        pool.shutdown(cancel_futures=True)


_process_renderer: SceneRenderer | None = None


def _set_renderer(renderer: SceneRenderer) -> None:
    global _process_renderer
    _process_renderer = renderer


def _files_of_process(split: str, index: int) -> tuple[bytes, list[dict[str, Any]]]:
    assert _process_renderer is not None
    return _process_renderer.files(split, index)


def _write_split(
    folder: Path, split: str, count: int, seed: int, size: tuple[int, int], render: Render, advance: Advance
) -> None:
    (folder / "images").mkdir(parents=True)
    width, height = size
    listed: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (picture, masks) in enumerate(render(split, count), start=1):
        name = f"synth_{seed}_{number - 1:06d}.jpg"
        (folder / "images" / name).write_bytes(picture)
        listed.append({"id": number, "file_name": name, "width": width, "height": height})
        for mask in masks:
            own = {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "iscrowd": 0}
            annotations.append(own | mask)
        advance(1)
    truth = {
        "info": {"description": f"Rendered pumpkins, pumpseg-data synth, seed {seed}"},
        "categories": [{"id": 1, "name": LABEL}],
        "images": listed,
        "annotations": annotations,
    }
    (folder / "annotations.json").write_text(json.dumps(truth) + "\n", encoding="utf-8")
