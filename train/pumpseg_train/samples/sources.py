"""What training samples are made of: photos, objects cut out of photos, and backgrounds."""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pumpseg.errors import DatasetError
from pumpseg_train.dataset.class_ids import CROWD, OTHER
from pumpseg_train.dataset.labelled_set import LabelledSet, Photo
from pumpseg_train.dataset.photo_file import list_images
from pumpseg_train.samples.scene import MAX_CUTOUT, MIN_CUTOUT, Cutout, Instance, cut_out, photo_instances

_MIN_SOLIDITY = 0.85  # area of the mask over that of its convex hull


@dataclass(frozen=True)
class SampleSources:
    """Sets of photos, cut-outs and backgrounds; each set of a kind is drawn equally often.

    `auxiliary` are labelled pictures that are worth less than `photos`, such as rendered ones. `distractors` are
    photos of other things with their masks, and `distractor_cutouts` those things: they are pasted too, so that a
    pasted edge alone does not give an object away. The box and mask heads learn their outlines, the class head learns
    that they are background.
    """

    photos: tuple[Photo, ...]
    auxiliary: tuple[tuple[Photo, ...], ...]
    cutouts: tuple[tuple[Cutout, ...], ...]
    distractors: tuple[tuple[Photo, ...], ...]
    distractor_cutouts: tuple[tuple[Cutout, ...], ...]
    backgrounds: tuple[tuple[Path, ...], ...]


def load_sources(
    dataset: LabelledSet,
    *,
    auxiliary: Iterable[LabelledSet] = (),
    paste_from: Iterable[LabelledSet] = (),
    distractors: Iterable[LabelledSet] = (),
    backgrounds: Iterable[Path] = (),
) -> SampleSources:
    """Cuts out the objects of the data set itself, of `paste_from` and `distractors`; lists the backgrounds.

    An object in `distractors` that has one of the data set's classes keeps that class.

    Raises:
        DatasetError: an auxiliary set has a class that the data set has not, or a folder of backgrounds is empty.
    """
    auxiliary = tuple(auxiliary)
    for extra in auxiliary:
        if unknown := [name for name in extra.classes if name not in dataset.classes]:
            raise DatasetError(f"{extra.json_path} has the class {unknown[0]!r}, which {dataset.json_path} has not")
    # What has no label there is none of the data set's classes either.
    distractor_photos = tuple(
        tuple(dataclasses.replace(photo, record={}) for photo in _in_classes_of(dataset, source))
        for source in distractors
    )
    return SampleSources(
        photos=dataset.photos,
        auxiliary=tuple(_in_classes_of(dataset, extra) for extra in auxiliary),
        cutouts=tuple(filter(None, (_cutouts(dataset, source) for source in (dataset, *paste_from)))),
        distractors=distractor_photos,
        distractor_cutouts=tuple(filter(None, map(_distractor_cutouts, distractor_photos))),
        backgrounds=tuple(list_images(folder) for folder in backgrounds),
    )


def _cutouts(dataset: LabelledSet, source: LabelledSet) -> tuple[Cutout, ...]:
    """Every large enough, whole instance of `source` whose class `dataset` has, under the class ids of `dataset`."""
    return tuple(
        cut_out(image, instance, MAX_CUTOUT)
        for image, instance in _large_instances(_in_classes_of(dataset, source))
        if instance.class_id != OTHER and not _is_fragment(instance.mask)
    )


def _distractor_cutouts(photos: Iterable[Photo]) -> tuple[Cutout, ...]:
    """Every large enough instance of a class that is not learnt."""
    return tuple(
        cut_out(image, instance, MAX_CUTOUT)
        for image, instance in _large_instances(photos)
        if instance.class_id == OTHER
    )


def _in_classes_of(dataset: LabelledSet, source: LabelledSet) -> tuple[Photo, ...]:
    """The photos of `source` under the class ids of `dataset`; instances of other classes are OTHER."""
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
    """Each instance worth cutting out, with its photo."""
    for photo in photos:
        image, instances = photo_instances(photo)
        for instance in instances:
            if instance.class_id != CROWD and max(instance.mask.shape) >= MIN_CUTOUT:
                yield image, instance


def _is_fragment(mask: np.ndarray) -> bool:
    """Whether something in front covers part of the object: pasted, such a piece teaches wrong outlines."""
    contours, _ = cv2.findContours((mask > 127).view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    hull = cv2.convexHull(np.concatenate(contours)) if contours else None
    return hull is None or cv2.countNonZero((mask > 127).view(np.uint8)) < _MIN_SOLIDITY * cv2.contourArea(hull)
