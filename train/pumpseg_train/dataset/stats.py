"""Counts and sizes of a data set."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from pumpseg.errors import DatasetError
from pumpseg_train.dataset.labelled_set import LabelledSet

SIZES = {"small": 32**2, "medium": 96**2}  # COCO's bounds, in pixels; above is large


def statistics(labelled: LabelledSet, split: str) -> dict[str, Any]:
    """Of a split: images, instances by class and size, crowd regions, instances an image, sides, shares of the image.

    Raises:
        DatasetError: an instance has no mask that can be read.
    """
    file, photos = labelled.files[split], labelled.splits[split]
    classes: Counter[str] = Counter({category["name"]: 0 for category in file.categories})
    sizes: Counter[str] = Counter({"small": 0, "medium": 0, "large": 0})
    shares, counts = [], []
    for photo in photos:
        instances = [annotation for annotation in photo.annotations if not annotation.crowd]
        counts.append(len(instances))
        for annotation in instances:
            if annotation.segmentation is None:
                raise DatasetError(
                    f"{file.path}: annotation {annotation.id} cannot be read: pumpseg-data check says why"
                )
            area = int(np.count_nonzero(annotation.mask(photo.width, photo.height)))
            classes[labelled.name_of(annotation)] += 1
            sizes[next((size for size, bound in SIZES.items() if area < bound), "large")] += 1
            shares.append(area / (photo.width * photo.height))
    return {
        "images": len(photos),
        "images without instances": counts.count(0),
        "instances": classes.total(),
        "crowd regions": labelled.count(split, crowd=True),
        "classes": dict(classes),
        "sizes": dict(sizes),
        "instances an image": _spread(counts),
        "width": _spread([photo.width for photo in photos]),
        "height": _spread([photo.height for photo in photos]),
        "share of the image": _spread(shares),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Smallest, median, mean and largest."""
    if not values:
        return {}
    figures = {"min": np.min(values), "median": np.median(values), "mean": np.mean(values), "max": np.max(values)}
    return {name: round(float(value), 4) for name, value in figures.items()}
