"""One training sample: a photo at a random scale, pasted objects, or a picture without any."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from pumpseg_train.dataset.class_ids import CROWD, OTHER
from pumpseg_train.dataset.labelled_set import Photo
from pumpseg_train.dataset.photo_file import load_image
from pumpseg_train.samples.colour import jitter_colour, jitter_light, log_uniform, vary
from pumpseg_train.samples.config import AugmentationConfig
from pumpseg_train.samples.scene import Cutout, Scene, affinity, mosaic, photo_instances, warp
from pumpseg_train.samples.sources import SampleSources

_MAX_BACKGROUND = 1024  # pixels a side


def draw_sample(
    sources: SampleSources, config: AugmentationConfig, size: int, fill: int, rng: np.random.Generator
) -> Scene:
    """One square training picture of `size` pixels; parts that no picture covers have the value `fill`."""
    if rng.random() < config.mosaic_prob:
        return mosaic([draw_one(sources, config, size // 2, fill, rng) for _ in range(4)])
    return draw_one(sources, config, size, fill, rng)


def draw_one(
    sources: SampleSources, config: AugmentationConfig, size: int, fill: int, rng: np.random.Generator
) -> Scene:
    """A sample that is not a mosaic."""
    kind = rng.choice(["negative", "paste", "extra", "photo"], p=kind_probabilities(sources, config))
    if kind == "photo" or kind == "extra":
        photos = sources.photos if kind == "photo" else _any(sources.auxiliary, rng)
        # Pictures of many objects teach more, but should not crowd out the rest.
        weights = np.sqrt([1 + len(photo.annotations) for photo in photos])
        scene = warp_photo(photos[rng.choice(len(photos), p=weights / weights.sum())], config, size, fill, rng)
        vary_objects(scene, config.variety_prob, rng)
    elif (
        kind == "negative"
        and sources.distractors
        and (not sources.backgrounds or rng.random() < config.distractor_photo_prob)
    ):
        scene = warp_photo(_any(_any(sources.distractors, rng), rng), config, size, fill, rng)
    else:
        scene = warp_background(sources, size, fill, rng)
    if kind == "paste" or (kind == "photo" and sources.cutouts and rng.random() < config.paste_onto_photos_prob):
        paste_objects(scene, sources, config, config.distractor_prob, rng)
    elif kind == "negative" and sources.distractor_cutouts and rng.random() < config.distractor_prob:
        paste_objects(scene, sources, config, 1.0, rng)
    scene.image = jitter_colour(scene.image, rng)
    return scene


def kind_probabilities(sources: SampleSources, config: AugmentationConfig) -> list[float]:
    """Probabilities of negatives, pasted pictures, auxiliary photos and photos, by what there is to make them of."""
    negative = config.negative_prob if sources.backgrounds or sources.distractors else 0.0
    paste = config.paste_prob if sources.backgrounds and sources.cutouts else 0.0
    extra = config.aux_prob if sources.auxiliary else 0.0
    return [negative, paste, extra, 1 - negative - paste - extra]


def warp_photo(photo: Photo, config: AugmentationConfig, size: int, fill: int, rng: np.random.Generator) -> Scene:
    """A photo and its instances, scaled, turned, mirrored and stretched at random."""
    image, instances = photo_instances(photo)
    height, width = image.shape[:2]
    scale = size / max(height, width) * log_uniform(rng, config.photo_scale)
    flip, degrees = rng.random() < 0.5, rng.normal(0, 6)
    target = rng.uniform(0.2, 0.8, 2) * size
    if instances and rng.random() < 0.8:  # centre on some instance
        chosen = instances[rng.integers(len(instances))]
        source = (chosen.x + chosen.mask.shape[1] / 2, chosen.y + chosen.mask.shape[0] / 2)
    else:
        source = (rng.uniform(0, width), rng.uniform(0, height))
    # Cameras rarely cut large objects: keep a picture that fits inside.
    matrix = affinity(scale, degrees, flip, source, (target[0], target[1]), _stretch(rng, config))
    matrix[:, 2] += _pull_inside(matrix, width, height, size)
    return warp(image, instances, matrix, size, fill)


def _pull_inside(matrix: np.ndarray, width: int, height: int, size: int) -> np.ndarray:
    """The shift that brings a small picture inside the square, and leaves no gap next to a large one."""
    corners = matrix[:, :2] @ np.array([[0, width, 0, width], [0, 0, height, height]]) + matrix[:, 2:]
    low, high = corners.min(axis=1), corners.max(axis=1)
    to_low, to_high = -low, size - high
    return np.clip(0, np.minimum(to_low, to_high), np.maximum(to_low, to_high))


def warp_background(sources: SampleSources, size: int, fill: int, rng: np.random.Generator) -> Scene:
    """A random piece of a background photo, without instances."""
    image = load_image(_any(_any(sources.backgrounds, rng), rng), _MAX_BACKGROUND)
    height, width = image.shape[:2]
    side = min(height, width) if rng.random() < 0.7 else max(height, width)
    scale = size / side * log_uniform(rng, (0.9, 1.8))
    source = (rng.uniform(0, width), rng.uniform(0, height))
    matrix = affinity(scale, rng.normal(0, 4), rng.random() < 0.5, source, (size / 2, size / 2))
    matrix[:, 2] += _pull_inside(matrix, width, height, size)
    return warp(image, (), matrix, size, fill)


def paste_objects(
    scene: Scene,
    sources: SampleSources,
    config: AugmentationConfig,
    distractor_prob: float,
    rng: np.random.Generator,
) -> None:
    """Pastes one to many objects of like size: apart, or in a pile around a point as at a market."""
    size = scene.image.shape[0]
    count = int(np.ceil(log_uniform(rng, (0.5, config.max_pasted))))
    low, high = config.pasted_size
    typical = log_uniform(rng, (low, high / np.sqrt(count) + low))
    pile = rng.uniform(0.25, 0.75, 2) * size if rng.random() < 0.4 else None
    for _ in range(count):
        other = bool(sources.distractor_cutouts) and rng.random() < distractor_prob
        cutout = _any(_any(sources.distractor_cutouts if other else sources.cutouts, rng), rng)
        longest = typical * size * log_uniform(rng, (0.7, 1.4))
        height, width = cutout.alpha.shape
        scale = min(longest / max(height, width), 2.5)
        if pile is None:
            target = rng.uniform(0.02, 0.98, 2) * size
        else:
            target = pile + rng.normal(0, 0.6 * np.sqrt(count), 2) * longest
        degrees = rng.normal(0, 12) if rng.random() < 0.85 else rng.uniform(0, 360)
        matrix = affinity(
            scale,
            degrees,
            rng.random() < 0.5,
            (width / 2, height / 2),
            (float(target[0]), float(target[1])),
            _stretch(rng, config),
        )
        soften = scale > 0.6 and rng.random() < 0.7  # shrinking softens the edge by itself
        alpha = cv2.GaussianBlur(cutout.alpha, (0, 0), 0.5 / scale) if soften else cutout.alpha
        image = jitter_light(cutout.image, rng)
        if rng.random() < config.variety_prob:
            image = vary(image, cutout.alpha, rng)
        scene.paste(Cutout(cutout.class_id, image, alpha), matrix)


def vary_objects(scene: Scene, probability: float, rng: np.random.Generator) -> None:
    """Varies some of the objects in place."""
    for class_id, mask in zip(scene.class_ids, scene.masks, strict=True):
        if class_id in (CROWD, OTHER) or rng.random() >= probability:
            continue
        x, y, width, height = cv2.boundingRect(mask)
        if width and height:
            region = np.s_[y : y + height, x : x + width]
            before, alpha = scene.image[region], mask[region]
            weight = (alpha.astype(np.float32) / 255)[..., None]
            scene.image[region] = (vary(before, alpha, rng) * weight + before * (1 - weight)).astype(np.uint8)


def _stretch(rng: np.random.Generator, config: AugmentationConfig) -> float:
    return log_uniform(rng, (1 / config.stretch, config.stretch))


def _any(choices: Sequence[Any], rng: np.random.Generator) -> Any:
    return choices[int(rng.integers(len(choices)))]
