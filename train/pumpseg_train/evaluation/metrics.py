"""COCO box and mask AP of anything that segments frames, and false alarms on photos without objects."""

import contextlib
import dataclasses
import io
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pumpseg.errors import DatasetError
from pumpseg.instances import Instances
from pumpseg_train.dataset.labelled_set import LabelledSet, Photo
from pumpseg_train.dataset.photo_file import read_frame
from pumpseg_train.progress import Advance

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# uint8 BGR (H, W, 3) -> instances, with every score above a low threshold.
Predict = Callable[[np.ndarray], Instances]


@dataclass(frozen=True)
class AveragePrecision:
    """COCO figures in 0..1; small < 32^2 <= medium < 96^2 <= large pixels.

    nan, or 0 when nothing was detected at all, where the set has no such instance.
    """

    ap: float
    ap50: float
    ap75: float
    small: float
    medium: float
    large: float


@dataclass(frozen=True)
class ClassAveragePrecision:
    """AP of one class; nan where the set has no instance of it."""

    box_ap: float
    box_ap50: float
    mask_ap: float
    mask_ap50: float


@dataclass(frozen=True)
class Metrics:
    """Means over the classes, and each class of the set by name."""

    box: AveragePrecision
    mask: AveragePrecision
    classes: Mapping[str, ClassAveragePrecision] = field(default_factory=dict)

    def to_json(self) -> dict[str, dict[str, float | None]]:
        """The means as JSON has them: null instead of nan."""
        return {"box": finite(self.box), "mask": finite(self.mask)}

    def classes_to_json(self) -> dict[str, dict[str, float | None]]:
        """The figures of the classes, likewise."""
        return {name: finite(figures) for name, figures in self.classes.items()}


def finite(figures: "DataclassInstance") -> dict[str, float | None]:
    """The fields of a dataclass of figures as JSON has them: null instead of nan."""
    return {name: None if math.isnan(value) else value for name, value in dataclasses.asdict(figures).items()}


def evaluate(dataset: LabelledSet, predict: Predict, advance: Advance = lambda count: None) -> Metrics:
    """The COCO figures of `predict` on every photo of the split, by pycocotools (100 detections a photo).

    advance: as `detect` calls it.

    Raises:
        DatasetError: as `detect` does.
    """
    return score(dataset, detect(dataset, predict, advance))


def detect(dataset: LabelledSet, predict: Predict, advance: Advance = lambda count: None) -> list[dict[str, Any]]:
    """Runs `predict` over every photo of the split; returns COCO results with `bbox` and `segmentation`.

    advance is called with 1 after each photo.

    Raises:
        DatasetError: a photo cannot be read or has another size than its annotations say, or the model does
            not know any class of the data set.
    """
    results = []
    for photo in dataset.photos:
        instances = predict(read_photo(photo))
        category_ids = _category_ids(dataset, instances.class_names)
        for box, confidence, class_id, rle in zip(
            instances.boxes, instances.scores, instances.class_ids, instances.to_rle(), strict=True
        ):
            if (category_id := category_ids[int(class_id)]) is not None:
                x1, y1, x2, y2 = (float(value) for value in box)
                results.append(
                    {
                        "image_id": photo.id,
                        "category_id": category_id,
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "score": float(confidence),
                        "segmentation": rle,
                    }
                )
        advance(1)
    return results


def read_photo(photo: Photo) -> np.ndarray:
    """The frame of a photo, uint8 BGR (H, W, 3).

    Raises:
        DatasetError: it cannot be read, or has another size than its annotations say.
    """
    frame = read_frame(photo.path)
    if frame.shape[:2] != (photo.height, photo.width):
        raise DatasetError(
            f"{photo.path} is {frame.shape[1]}x{frame.shape[0]}, its annotations are for {photo.width}x{photo.height}"
        )
    return frame


def score(dataset: LabelledSet, results: list[dict[str, Any]]) -> Metrics:
    """The COCO figures of the `results` of `detect`."""
    with quiet():
        truth = coco_truth(dataset)
        (box, box_classes), (mask, mask_classes) = (_average_precision(truth, results, k) for k in ("bbox", "segm"))
    by_class = zip(dataset.classes, box_classes, mask_classes, strict=True)
    return Metrics(box, mask, {name: ClassAveragePrecision(*boxes, *masks) for name, boxes, masks in by_class})


def highest_scores(
    photos: Iterable[Path], predict: Predict, advance: Advance = lambda count: None
) -> list[tuple[Path, float]]:
    """Each photo and the highest score of what is found in it, 0 where nothing is.

    advance is called with 1 after each photo.
    """
    highest = []
    for path in photos:
        scores = predict(read_frame(path)).scores
        highest.append((path, float(scores.max()) if len(scores) else 0.0))
        advance(1)
    return highest


def false_alarms(
    photos: Iterable[Path], predict: Predict, threshold: float = 0.5, advance: Advance = lambda count: None
) -> list[tuple[Path, float]]:
    """Which of these photos without objects have a detection of at least `threshold`, and its score.

    advance is called with 1 after each photo.
    """
    return [(path, score) for path, score in highest_scores(photos, predict, advance) if score and score >= threshold]


def quiet() -> contextlib.redirect_stdout[io.StringIO]:
    """Hides the tables that pycocotools prints inside this context."""
    return contextlib.redirect_stdout(io.StringIO())


def coco_truth(dataset: LabelledSet) -> COCO:
    """The annotations as pycocotools wants them; area, bbox and iscrowd are optional in the json.

    They are renumbered: to pycocotools the id 0 means "matches nothing", and ids may occur twice in the json.
    """
    annotations: list[dict[str, Any]] = []
    for photo in dataset.photos:
        for annotation in photo.annotations:
            encoded = coco_mask.encode(np.asfortranarray(annotation.mask(photo.width, photo.height)))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": photo.id,
                    "category_id": annotation.class_id,
                    "iscrowd": int(annotation.crowd),
                    "segmentation": encoded,
                    "area": float(coco_mask.area(encoded)),
                    "bbox": coco_mask.toBbox(encoded).tolist(),
                }
            )
    truth = COCO()
    truth.dataset = {
        "images": [{"id": photo.id, "width": photo.width, "height": photo.height} for photo in dataset.photos],
        "categories": [{"id": number, "name": name} for number, name in enumerate(dataset.classes, start=1)],
        "annotations": annotations,
    }
    truth.createIndex()
    return truth


def _category_ids(dataset: LabelledSet, class_names: tuple[str, ...]) -> list[int | None]:
    ids = [dataset.classes.index(name) + 1 if name in dataset.classes else None for name in class_names]
    if not any(id is not None for id in ids):
        raise DatasetError(f"the model knows {class_names}, {dataset.json_path} has {dataset.classes}")
    return ids


def _average_precision(
    truth: COCO, results: list[dict[str, Any]], kind: str
) -> tuple[AveragePrecision, list[tuple[float, float]]]:
    """The figures of all classes together, and AP and AP50 of each class."""
    if not results:
        return AveragePrecision(*[0.0] * 6), [(0.0, 0.0)] * len(truth.dataset["categories"])
    scorer = COCOeval(truth, truth.loadRes(results), kind)
    scorer.evaluate()
    scorer.accumulate()
    scorer.summarize()
    precision = scorer.eval["precision"][..., 0, -1]  # IoU from 0.5, recall, class; all areas, most detections
    classes = [(_or_nan(values.mean()), _or_nan(values[0].mean())) for values in np.moveaxis(precision, 2, 0)]
    return AveragePrecision(*map(_or_nan, scorer.stats[:6])), classes


def _or_nan(value: float) -> float:
    """pycocotools says -1 where there is nothing to measure."""
    return float(value) if value >= 0 else float("nan")
