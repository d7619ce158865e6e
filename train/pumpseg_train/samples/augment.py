"""Training samples: real photos seen anew, cut-out objects pasted onto backgrounds, and pictures without any."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageEnhance

from pumpseg.errors import DatasetError
from pumpseg_train.dataset.annotations import Dataset, Photo, list_images, load_image
from pumpseg_train.dataset.class_ids import CROWD, OTHER
from pumpseg_train.samples.scene import (
    MAX_CUTOUT,
    MIN_CUTOUT,
    Cutout,
    Instance,
    Scene,
    affinity,
    cut_out,
    mosaic,
    photo_instances,
    warp,
)

_MAX_BACKGROUND = 1024
_MIN_SOLIDITY = 0.85  # area of the mask over that of its convex hull


@dataclass(frozen=True)
class Recipe:
    """How often each kind of sample is drawn, and how far it is bent. Ranges are drawn log-uniformly."""

    mosaic_share: float = 0.2  # four samples of half the size side by side; the shares below hold for each
    paste_share: float = 0.3
    negative_share: float = 0.18
    extra_share: float = 0.15
    photo_scale: tuple[float, float] = (0.6, 2.4)  # of the photo that would just fit the input
    pasted_size: tuple[float, float] = (0.05, 0.7)  # longer side, of the input side
    most_pasted: int = 30
    paste_onto_photos: float = 0.3  # of the real samples also get objects pasted
    other_share: float = 0.3  # of what is pasted; and the share of negatives that get some
    other_photos: float = 0.5  # of the negatives are photos of other things, with their outlines
    varied_share: float = 0.25  # of the objects in photos and of those pasted change colour and surface
    stretch: float = 1.25  # photos and pasted objects become up to this much wider or narrower

    def __post_init__(self) -> None:
        """Raises ValueError for a value out of its range."""
        shares = dataclasses.asdict(self)
        kinds = ("negative_share", "paste_share", "extra_share")
        for name in (*kinds, "mosaic_share", "paste_onto_photos", "other_share", "other_photos", "varied_share"):
            if not 0 <= shares[name] <= 1:
                raise ValueError(f"{name} = {shares[name]} does not lie in 0..1")
        if sum(shares[name] for name in kinds) > 1:
            raise ValueError(f"{' + '.join(kinds)} = {sum(shares[name] for name in kinds):g} is more than 1")
        for name, (low, high) in (("photo_scale", self.photo_scale), ("pasted_size", self.pasted_size)):
            if not 0 < low <= high:
                raise ValueError(f"{name} = {low}, {high} must be above 0 and rise")
        if self.most_pasted < 1:
            raise ValueError(f"most_pasted = {self.most_pasted} is less than 1")
        if self.stretch < 1:
            raise ValueError(f"stretch = {self.stretch} is less than 1")


@dataclass(frozen=True)
class Material:
    """What samples are made of. Each set of extras, of cut-outs, of backgrounds is drawn equally often.

    `extras` are labelled pictures that are worth less than `photos`, such as rendered ones. `others` are
    photos of other things with their outlines, and `other_cutouts` those things: pasted too, so that a pasted edge
    alone does not give an object away. The box and the mask head learn outlines of them, the classes what not to find.
    """

    photos: tuple[Photo, ...]
    extras: tuple[tuple[Photo, ...], ...]
    cutouts: tuple[tuple[Cutout, ...], ...]
    others: tuple[tuple[Photo, ...], ...]
    other_cutouts: tuple[tuple[Cutout, ...], ...]
    backgrounds: tuple[tuple[Path, ...], ...]


def gather(
    dataset: Dataset,
    *,
    extras: Iterable[Dataset] = (),
    cutouts: Iterable[Dataset] = (),
    others: Iterable[Dataset] = (),
    backgrounds: Iterable[Path] = (),
) -> Material:
    """Cuts out the objects of the data set itself, of `cutouts` and `others`; lists the backgrounds.

    What is of one of the data set's classes in `others` counts as such.

    Raises:
        DatasetError: an extra set has a class that the data set has not, or a folder of backgrounds is empty.
    """
    extras = tuple(extras)
    other_photos = tuple(_in_classes_of(dataset, source) for source in others)
    for extra in extras:
        if unknown := [name for name in extra.classes if name not in dataset.classes]:
            raise DatasetError(f"{extra.json_path} has the class {unknown[0]!r}, which {dataset.json_path} has not")
    return Material(
        dataset.photos,
        tuple(_in_classes_of(dataset, extra) for extra in extras),
        tuple(filter(None, (_cutouts(dataset, source) for source in (dataset, *cutouts)))),
        other_photos,
        tuple(filter(None, (_other_cutouts(photos) for photos in other_photos))),
        tuple(list_images(folder) for folder in backgrounds),
    )


def draw_sample(material: Material, recipe: Recipe, size: int, fill: int, rng: np.random.Generator) -> Scene:
    """One square training picture of `size` pixels; parts that no picture covers have the value `fill`."""
    if rng.random() < recipe.mosaic_share:
        return mosaic([_draw(material, recipe, size // 2, fill, rng) for _ in range(4)])
    return _draw(material, recipe, size, fill, rng)


def _draw(material: Material, recipe: Recipe, size: int, fill: int, rng: np.random.Generator) -> Scene:
    kind = rng.choice(["negative", "paste", "extra", "photo"], p=_shares(material, recipe))
    if kind == "photo" or kind == "extra":
        photos = material.photos if kind == "photo" else _any(material.extras, rng)
        # Pictures of many objects have more to teach, but should not crowd out the others.
        weights = np.sqrt([1 + len(photo.annotations) for photo in photos])
        scene = _photo(photos[rng.choice(len(photos), p=weights / weights.sum())], recipe, size, fill, rng)
        _vary_some(scene, recipe.varied_share, rng)
    elif kind == "negative" and material.others and (not material.backgrounds or rng.random() < recipe.other_photos):
        scene = _photo(_any(_any(material.others, rng), rng), recipe, size, fill, rng)
    else:
        scene = _background(material, size, fill, rng)
    if kind == "paste" or (kind == "photo" and material.cutouts and rng.random() < recipe.paste_onto_photos):
        _paste_some(scene, material, recipe, recipe.other_share, rng)
    elif kind == "negative" and material.other_cutouts and rng.random() < recipe.other_share:
        _paste_some(scene, material, recipe, 1.0, rng)
    scene.image = jitter_colour(scene.image, rng)
    return scene


def jitter_colour(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random light, contrast, saturation, white balance, and now and then blur, noise or grey; RGB in and out."""
    picture = Image.fromarray(image)
    for enhance, low, high in (
        (ImageEnhance.Brightness, 0.6, 1.45),
        (ImageEnhance.Contrast, 0.65, 1.4),
        (ImageEnhance.Color, 0.55, 1.5),
    ):
        if rng.random() < 0.7:
            picture = enhance(picture).enhance(_log_uniform(rng, (low, high)))
    image = np.asarray(picture)
    if rng.random() < 0.4:
        gains = rng.uniform(0.88, 1.12, 3)
        table = np.clip(np.arange(256)[:, None] * gains, 0, 255).astype(np.uint8)
        image = cv2.LUT(image, table[None])
    if rng.random() < 0.03:
        image = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    if rng.random() < 0.15:  # as from a poor camera or a thumbnail
        height, width = image.shape[:2]
        share = rng.uniform(0.35, 0.8)
        small = cv2.resize(image, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
        image = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    chance = rng.random()
    if chance < 0.12:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.4))
    elif chance < 0.22:
        noise = rng.normal(0, rng.uniform(2, 10), image.shape)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    elif chance < 0.37:
        coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 80))])[1]
        image = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))
    return image


def _cutouts(dataset: Dataset, source: Dataset) -> tuple[Cutout, ...]:
    """Every large enough, whole instance of `source` whose class `dataset` has, under the class ids of `dataset`."""
    return tuple(
        cut_out(image, instance, MAX_CUTOUT)
        for image, instance in _large_instances(_in_classes_of(dataset, source))
        if instance.class_id != OTHER and not _is_fragment(instance.mask)
    )


def _other_cutouts(photos: Iterable[Photo]) -> tuple[Cutout, ...]:
    """Every large enough instance of other things."""
    return tuple(
        cut_out(image, instance, MAX_CUTOUT)
        for image, instance in _large_instances(photos)
        if instance.class_id == OTHER
    )


def _in_classes_of(dataset: Dataset, source: Dataset) -> tuple[Photo, ...]:
    """The photos of `source` under the class ids of `dataset`; what it has no class for is OTHER."""
    ids = [dataset.classes.index(name) + 1 if name in dataset.classes else OTHER for name in source.classes]
    return tuple(
        dataclasses.replace(
            photo,
            annotations=tuple(
                dataclasses.replace(annotation, class_id=ids[annotation.class_id - 1])
                for annotation in photo.annotations
            ),
        )
        for photo in source.photos
    )


def _large_instances(photos: Iterable[Photo]) -> Iterator[tuple[np.ndarray, Instance]]:
    """Photo and instance of whatever is worth cutting out."""
    for photo in photos:
        image, instances = photo_instances(photo)
        for instance in instances:
            if instance.class_id != CROWD and max(instance.mask.shape) >= MIN_CUTOUT:
                yield image, instance


def _is_fragment(mask: np.ndarray) -> bool:
    """Whether something in front has bitten into the object: such a piece teaches wrong outlines when pasted."""
    contours, _ = cv2.findContours((mask > 127).view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    hull = cv2.convexHull(np.concatenate(contours)) if contours else None
    return hull is None or cv2.countNonZero((mask > 127).view(np.uint8)) < _MIN_SOLIDITY * cv2.contourArea(hull)


def _shares(material: Material, recipe: Recipe) -> list[float]:
    """Shares of negatives, pasted pictures, extras and photos, by what there is to make them of."""
    negative = recipe.negative_share if material.backgrounds or material.others else 0.0
    paste = recipe.paste_share if material.backgrounds and material.cutouts else 0.0
    extra = recipe.extra_share if material.extras else 0.0
    return [negative, paste, extra, 1 - negative - paste - extra]


def _photo(photo: Photo, recipe: Recipe, size: int, fill: int, rng: np.random.Generator) -> Scene:
    image, instances = photo_instances(photo)
    height, width = image.shape[:2]
    scale = size / max(height, width) * _log_uniform(rng, recipe.photo_scale)
    flip, degrees = rng.random() < 0.5, rng.normal(0, 6)
    target = rng.uniform(0.2, 0.8, 2) * size
    if instances and rng.random() < 0.8:  # look at some instance
        chosen = instances[rng.integers(len(instances))]
        source = (chosen.x + chosen.mask.shape[1] / 2, chosen.y + chosen.mask.shape[0] / 2)
    else:
        source = (rng.uniform(0, width), rng.uniform(0, height))
    # Large objects should not be cut to pieces more often than cameras do: keep a picture that fits inside.
    matrix = affinity(scale, degrees, flip, source, (target[0], target[1]), _stretch(rng, recipe))
    matrix[:, 2] += _pull_inside(matrix, width, height, size)
    return warp(image, instances, matrix, size, fill)


def _pull_inside(matrix: np.ndarray, width: int, height: int, size: int) -> np.ndarray:
    """The shift that brings a small picture inside the square, and leaves no gap beside a large one."""
    corners = matrix[:, :2] @ np.array([[0, width, 0, width], [0, 0, height, height]]) + matrix[:, 2:]
    low, high = corners.min(axis=1), corners.max(axis=1)
    to_low, to_high = -low, size - high
    return np.clip(0, np.minimum(to_low, to_high), np.maximum(to_low, to_high))


def _background(material: Material, size: int, fill: int, rng: np.random.Generator) -> Scene:
    image = load_image(_any(_any(material.backgrounds, rng), rng), _MAX_BACKGROUND)
    height, width = image.shape[:2]
    side = min(height, width) if rng.random() < 0.7 else max(height, width)
    scale = size / side * _log_uniform(rng, (0.9, 1.8))
    source = (rng.uniform(0, width), rng.uniform(0, height))
    matrix = affinity(scale, rng.normal(0, 4), rng.random() < 0.5, source, (size / 2, size / 2))
    matrix[:, 2] += _pull_inside(matrix, width, height, size)
    return warp(image, (), matrix, size, fill)


def _paste_some(scene: Scene, material: Material, recipe: Recipe, other_share: float, rng: np.random.Generator) -> None:
    """Pastes one to many objects of like size: apart, or heaped around a point as at a market."""
    size = scene.image.shape[0]
    count = int(np.ceil(_log_uniform(rng, (0.5, recipe.most_pasted))))
    low, high = recipe.pasted_size
    typical = _log_uniform(rng, (low, high / np.sqrt(count) + low))
    heap = rng.uniform(0.25, 0.75, 2) * size if rng.random() < 0.4 else None
    for _ in range(count):
        other = bool(material.other_cutouts) and rng.random() < other_share
        cutout = _any(_any(material.other_cutouts if other else material.cutouts, rng), rng)
        longest = typical * size * _log_uniform(rng, (0.7, 1.4))
        height, width = cutout.alpha.shape
        scale = min(longest / max(height, width), 2.5)
        if heap is None:
            target = rng.uniform(0.02, 0.98, 2) * size
        else:
            target = heap + rng.normal(0, 0.6 * np.sqrt(count), 2) * longest
        degrees = rng.normal(0, 12) if rng.random() < 0.85 else rng.uniform(0, 360)
        matrix = affinity(
            scale,
            degrees,
            rng.random() < 0.5,
            (width / 2, height / 2),
            (float(target[0]), float(target[1])),
            _stretch(rng, recipe),
        )
        soften = scale > 0.6 and rng.random() < 0.7  # shrinking softens the edge by itself
        alpha = cv2.GaussianBlur(cutout.alpha, (0, 0), 0.5 / scale) if soften else cutout.alpha
        image = jitter_light(cutout.image, rng)
        if rng.random() < recipe.varied_share:
            image = vary(image, cutout.alpha, rng)
        scene.paste(Cutout(cutout.class_id, image, alpha), matrix)


def jitter_light(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Hue, saturation, light and colour cast of one pasted object, RGB in and out; some become pale varieties."""
    steps = int(rng.normal(0, 5))
    strength = _log_uniform(rng, (0.15, 0.6) if rng.random() < 0.12 else (0.75, 1.3))
    image = _turn_hue(image, steps, strength)
    gains = rng.uniform(0.75, 1.25) * rng.uniform(0.94, 1.06, 3)
    table = np.clip(np.arange(256)[:, None] * gains, 0, 255).astype(np.uint8)
    return cv2.LUT(image, table[None])


def vary(image: np.ndarray, alpha: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The object as another variety: its hue turned by up to 25 degrees, its surface without ribs, or both.

    image: uint8 RGB (h, w, 3); alpha: uint8 (h, w), the object in it. What surrounds it does not bleed in.
    """
    kind = rng.integers(3)
    if kind != 0:
        image = _turn_hue(image, int(rng.integers(-18, 19)))
    if kind != 1:
        sigma = _log_uniform(rng, (0.02, 0.08)) * max(alpha.shape)
        weight = alpha.astype(np.float32)[..., None] / 255 + 1e-3
        sums = cv2.GaussianBlur(np.concatenate([image * weight, weight], axis=2), (0, 0), sigma)
        strength = rng.uniform(0.6, 1.0)
        image = (image + strength * (sums[..., :3] / sums[..., 3:] - image)).astype(np.uint8)
    return image


def _turn_hue(image: np.ndarray, steps: int, strength: float = 1.0) -> np.ndarray:
    """RGB with its hue turned by `steps`, of which 256 are the full circle, and its saturation times `strength`."""
    hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL))
    values = np.arange(256)
    turned = ((values + steps) % 256).astype(np.uint8)
    stronger = np.clip(values * strength, 0, 255).astype(np.uint8)
    turned_image = cv2.merge([cv2.LUT(hue, turned), cv2.LUT(saturation, stronger), value])
    return cv2.cvtColor(turned_image, cv2.COLOR_HSV2RGB_FULL)


def _vary_some(scene: Scene, share: float, rng: np.random.Generator) -> None:
    """Varies some of the objects in place."""
    for class_id, mask in zip(scene.class_ids, scene.masks, strict=True):
        if class_id in (CROWD, OTHER) or rng.random() >= share:
            continue
        x, y, width, height = cv2.boundingRect(mask)
        if width and height:
            region = np.s_[y : y + height, x : x + width]
            before, alpha = scene.image[region], mask[region]
            weight = (alpha.astype(np.float32) / 255)[..., None]
            scene.image[region] = (vary(before, alpha, rng) * weight + before * (1 - weight)).astype(np.uint8)


def _stretch(rng: np.random.Generator, recipe: Recipe) -> float:
    return _log_uniform(rng, (1 / recipe.stretch, recipe.stretch))


def _any(choices: Sequence[Any], rng: np.random.Generator) -> Any:
    return choices[int(rng.integers(len(choices)))]


def _log_uniform(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(*np.log(limits))))
