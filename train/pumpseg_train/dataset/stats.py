"""Figures of a data set."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from pumpseg.errors import DatasetError
from pumpseg_train.dataset.masks import decode
from pumpseg_train.dataset.raw_files import SplitFile

SIZES = {"small": 32**2, "medium": 96**2}  # COCO's bounds, in pixels; above is large


def statistics(split: SplitFile) -> dict[str, Any]:
    """Images, instances by class and size, crowd regions, instances an image, sides of images, shares of the image.

    Raises:
        DatasetError: a mask cannot be read, or is of an image that is not listed.
    """
    names = {category["id"]: category["name"] for category in split.categories}
    images = {image["id"]: image for image in split.images}
    classes: Counter[str] = Counter(dict.fromkeys(names.values(), 0))
    sizes: Counter[str] = Counter({"small": 0, "medium": 0, "large": 0})
    per_image: Counter[int] = Counter()
    shares, crowds = [], 0
    for annotation in split.annotations:
        if annotation.get("iscrowd"):
            crowds += 1
            continue
        try:
            image = images[annotation["image_id"]]
            name = names[annotation["category_id"]]
            area = _area(annotation, int(image["width"]), int(image["height"]))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DatasetError(
                f"{split.folder}: annotation {annotation['id']} cannot be read ({type(error).__name__} {error}): "
                "pumpseg-data check tells more"
            ) from error
        classes[name] += 1
        sizes[next((size for size, bound in SIZES.items() if area < bound), "large")] += 1
        per_image[annotation["image_id"]] += 1
        shares.append(area / (image["width"] * image["height"]))
    counts = [per_image[number] for number in images]
    return {
        "images": len(images),
        "images without instances": counts.count(0),
        "instances": classes.total(),
        "crowd regions": crowds,
        "classes": dict(classes),
        "sizes": dict(sizes),
        "instances an image": _spread(counts),
        "width": _spread([image["width"] for image in split.images]),
        "height": _spread([image["height"] for image in split.images]),
        "share of the image": _spread(shares),
    }


def _area(annotation: dict[str, Any], width: int, height: int) -> int:
    mask = decode(annotation["segmentation"], width, height)
    return int(coco_mask.area(coco_mask.encode(np.asfortranarray(mask))))


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Smallest, median, mean and largest."""
    if not values:
        return {}
    figures = {"min": np.min(values), "median": np.median(values), "mean": np.mean(values), "max": np.max(values)}
    return {name: round(float(value), 4) for name, value in figures.items()}
