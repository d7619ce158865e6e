"""Details of an AP: precision against recall, the confusion matrix, and the photos with most errors."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.cocoeval import COCOeval

from pumpseg.atomic_file import complete_file
from pumpseg.errors import PumpsegError
from pumpseg_train.dataset.labelled_set import LabelledSet, Photo
from pumpseg_train.dataset.photo_file import read_frame
from pumpseg_train.evaluation.metrics import coco_truth, quiet
from pumpseg_train.evaluation.operating_point import ALARM_RATES, SMALLEST, ScoredDetections
from pumpseg_train.evaluation.prediction_sheet import tile, write_sheet

_RIGHT, _WRONG, _MISSED = (80, 220, 60), (60, 60, 255), (255, 196, 0)  # BGR
_CURVES = (0.5, 0.75, 0.9)  # IoU
_WORST = 12


@dataclass(frozen=True)
class PhotoMatches:
    """Detections of one photo at a chosen score against its instances, by mask IoU.

    `found` are bool (D,): which detections match an instance of their class; `ignored` bool (D,): which are
    in crowd regions instead; `hit` bool (G,): which instances were found; `instance` int (D,): which instance of any
    class a detection matches, -1 for none; `areas` float (G,) of the instances, in pixels. Detections are ordered by
    score.
    """

    photo: Photo
    detections: list[dict[str, Any]]
    found: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    hit: NDArray[np.bool_]
    instance: NDArray[np.int64]
    areas: NDArray[np.float64]

    @property
    def wrong(self) -> int:
        """False positives."""
        return int((~self.found & ~self.ignored).sum())

    @property
    def missed(self) -> int:
        """False negatives."""
        return int((~self.hit).sum())


def match_photos(
    dataset: LabelledSet, results: list[dict[str, Any]], threshold: float, iou: float = 0.5
) -> tuple[NDArray[np.int64], list[PhotoMatches]]:
    """Confusion matrix int (K + 1, K + 1), truth by row and background last, and the matches of each photo.

    Detections of at least `threshold` match, best score first, the unmatched instance of any class that they
    overlap most, from `iou` on. Those mostly in a crowd region are ignored.
    """
    classes = len(dataset.classes)
    matrix = np.zeros((classes + 1, classes + 1), np.int64)
    photos = []
    for photo in dataset.photos:
        instances = [annotation for annotation in photo.annotations if not annotation.crowd]
        crowds = [annotation for annotation in photo.annotations if annotation.crowd]
        detections = sorted(
            (r for r in results if r["image_id"] == photo.id and r["score"] >= threshold), key=lambda r: -r["score"]
        )
        masks = [r["segmentation"] for r in detections]
        truth = [_rle(photo, annotation) for annotation in instances]
        overlaps = _overlaps(masks, truth, crowd=False)
        in_crowd = _overlaps(masks, [_rle(photo, a) for a in crowds], crowd=True).max(axis=1, initial=0) >= iou
        hit = np.zeros(len(instances), bool)
        found = np.zeros(len(detections), bool)
        ignored = np.zeros(len(detections), bool)
        taken = np.zeros(len(instances), bool)
        matched = np.full(len(detections), -1)
        for row, detection in enumerate(detections):
            seen_as = detection["category_id"] - 1
            free = np.where(taken, -1.0, overlaps[row])
            best = int(free.argmax()) if len(instances) else -1
            if best >= 0 and free[best] >= iou:
                taken[best] = True
                matched[row] = best
                is_class = instances[best].class_id - 1
                found[row] = hit[best] = is_class == seen_as
                matrix[is_class, seen_as] += 1
            elif in_crowd[row]:
                ignored[row] = True
            else:
                matrix[classes, seen_as] += 1
        for instance, was_taken in zip(instances, taken, strict=True):
            if not was_taken:
                matrix[instance.class_id - 1, classes] += 1
        areas = np.array([coco_mask.area(encoded) for encoded in truth], float)
        photos.append(PhotoMatches(photo, detections, found, ignored, hit, matched, areas))
    return matrix, photos


def write_report(
    folder: Path, dataset: LabelledSet, results: list[dict[str, Any]], threshold: float, scored: ScoredDetections
) -> list[Path]:
    """Writes pictures and a table into `folder`, which is made; returns their paths.

    precision_recall.png, confusion.png; reliability.png, what a score is worth; recall_alarms.png, where false alarms
    were counted; photos.csv, all photos from the worst to the best with how many instances they
    show, how many of these were missed and how many detections are wrong; worst.jpg, the first of them.

    Raises:
        PumpsegError: they cannot be written.
    """
    matrix, photos = match_photos(dataset, results, threshold)
    photos.sort(key=lambda matches: -(matches.missed + matches.wrong))
    figures = {
        "precision_recall.png": _draw_precision_recall(dataset, results),
        "confusion.png": _draw_confusion(matrix, (*dataset.classes, "background"), threshold),
        "reliability.png": _draw_reliability(scored),
    }
    if scored.highest.size:
        figures["recall_alarms.png"] = _draw_alarms(scored, threshold)
    table_path, worst_path = folder / "photos.csv", folder / "worst.jpg"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            with complete_file(folder / name) as partial:
                figure.savefig(partial)
        with complete_file(table_path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["photo", "instances", "missed", "wrong"])
            table.writerows([m.photo.path.name, len(m.hit), m.missed, m.wrong] for m in photos)
    except PumpsegError:
        raise
    except OSError as error:
        raise PumpsegError(f"cannot write {folder}: {error.strerror}") from None
    write_sheet(worst_path, [tile(draw_matches(matches), 480) for matches in photos[:_WORST]], columns=3)
    return [*(folder / name for name in figures), table_path, worst_path]


def draw_matches(matches: PhotoMatches) -> NDArray[np.uint8]:
    """The photo, uint8 BGR, with right detections outlined green, wrong ones red, missed instances blue."""
    picture = read_frame(matches.photo.path)
    thickness = max(2, max(picture.shape[:2]) // 240)
    instances = [annotation for annotation in matches.photo.annotations if not annotation.crowd]
    for annotation, hit in zip(instances, matches.hit, strict=True):
        if not hit:
            _outline(picture, annotation.mask(matches.photo.width, matches.photo.height), _MISSED, thickness)
    for detection, found, ignored in zip(matches.detections, matches.found, matches.ignored, strict=True):
        if not ignored:
            _outline(picture, coco_mask.decode(detection["segmentation"]), _RIGHT if found else _WRONG, thickness)
    return picture


def _outline(picture: NDArray[np.uint8], mask: NDArray[np.uint8], colour: Sequence[int], thickness: int) -> None:
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(picture, contours, -1, tuple(colour), thickness, cv2.LINE_AA)


def _draw_precision_recall(dataset: LabelledSet, results: list[dict[str, Any]]) -> Figure:
    """Precision against recall of the masks, all sizes, averaged over the classes that have instances."""
    figure = Figure(figsize=(6, 5), dpi=120, layout="tight")
    axes = figure.subplots()
    if results:
        with quiet():
            truth = coco_truth(dataset)
            scorer = COCOeval(truth, truth.loadRes(results), "segm")
            scorer.params.iouThrs = np.array(_CURVES)
            scorer.evaluate()
            scorer.accumulate()
        precision = scorer.eval["precision"][..., 0, -1]  # IoU, recall, class; all areas, most detections
        for iou, curve in zip(_CURVES, precision, strict=True):
            present = curve[:, (curve >= 0).all(axis=0)]
            if present.size:
                mean = present.mean(axis=1)
                axes.plot(scorer.params.recThrs, mean, label=f"IoU {iou:g}: AP {mean.mean():.3f}")
        axes.legend(loc="lower left")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title="masks")
    axes.grid(alpha=0.3)
    return figure


def _draw_reliability(scored: ScoredDetections) -> Figure:
    """The share of detections that is right against their score: on the diagonal, a score is a probability."""
    figure = Figure(figsize=(5, 5), dpi=120, layout="tight")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1)
    rows = scored.reliability()
    axes.plot([row[0] for row in rows], [row[1] for row in rows], marker="o")
    for mean, right, count in rows:
        axes.annotate(str(count), (mean, right), textcoords="offset points", xytext=(4, -10), fontsize=7)
    axes.set(xlabel="score", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.02), title="reliability")
    axes.grid(alpha=0.3)
    return figure


def _draw_alarms(scored: ScoredDetections, threshold: float) -> Figure:
    """Recall against false alarms, with the thresholds for few of them."""
    figure = Figure(figsize=(6, 5), dpi=120, layout="tight")
    axes = figure.subplots()
    curve = scored.curve()
    axes.plot([point.alarms for point in curve], [point.recall for point in curve])
    for point in (scored.at(threshold), *map(scored.for_alarms, ALARM_RATES)):
        axes.plot(point.alarms, point.recall, "o", label=f"threshold {point.threshold:.2f}: {point.alarms:.1f} in 100")
    axes.legend(loc="lower right")
    axes.set(
        xlabel="negative photos with a false alarm, in 100",
        ylabel=f"recall of instances of {SMALLEST:g} px and more",
        ylim=(0, 1.02),
    )
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    return figure


def _draw_confusion(matrix: NDArray[np.int64], names: Sequence[str], threshold: float) -> Figure:
    side = 2.5 + 0.7 * len(names)
    figure = Figure(figsize=(side + 0.5, side), dpi=120, layout="tight")
    axes = figure.subplots()
    most = max(int(matrix.max()), 1)
    axes.imshow(matrix, cmap="Blues", vmin=0, vmax=most)
    for row, column in np.ndindex(*matrix.shape):
        if (row, column) != (len(names) - 1,) * 2:
            colour = "white" if matrix[row, column] > 0.6 * most else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="found as", ylabel="is", title=f"score >= {threshold:g}, IoU >= 0.5")
    return figure


def _rle(photo: Photo, annotation: Any) -> dict[str, Any]:
    return coco_mask.encode(np.asfortranarray(annotation.mask(photo.width, photo.height)))


def _overlaps(masks: list[Any], others: list[Any], *, crowd: bool) -> NDArray[np.float64]:
    """Pairwise IoU (N, M); with `crowd`, the share of the first that is in the second."""
    if not masks or not others:
        return np.zeros((len(masks), len(others)))
    return np.asarray(coco_mask.iou(masks, others, [int(crowd)] * len(others)))
