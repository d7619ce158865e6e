"""Divides a data set into new splits: near-duplicates stay together, classes are spread evenly."""

import os
import random
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pumpseg.errors import DatasetError
from pumpseg_train.dataset.annotations import SplitWriter
from pumpseg_train.dataset.atomic_folder import atomic_folder, place_photos
from pumpseg_train.dataset.check import NEAR, near_pairs
from pumpseg_train.dataset.labelled_set import LabelledSet, Photo
from pumpseg_train.dataset.photo_file import probe_file
from pumpseg_train.dataset.provenance import pool_about
from pumpseg_train.progress import Progress

_IMAGES = ""  # counted like a class
_SWAPS = 100  # tried for every group


@dataclass(frozen=True, eq=False)
class _Entry:
    """A photo of the pool, and how many instances of which class it has."""

    photo: Photo
    classes: Counter[str]


@dataclass(frozen=True)
class PartCounts:
    """What a split got: images, and instances by class."""

    images: int
    instances: Counter[str]


def divide(
    labelled: LabelledSet,
    out: Path,
    shares: Mapping[str, float],
    report: Progress,
    *,
    seed: int = 0,
    group: str | None = None,
    near: int = NEAR,
    link: bool = False,
) -> dict[str, PartCounts]:
    """Pools all splits and writes the new folder `out` with the splits of `shares`, which add up to 1.

    Images whose perceptual hashes differ in at most `near` bits come into one split, and so do those whose names
    have the same match of the regular expression `group` (its first bracket, if there is one).
    Raises DatasetError.
    """
    categories = _categories(labelled)
    about, labelled = pool_about(labelled)
    pool = [
        _Entry(photo, Counter(labelled.name_of(a) for a in photo.annotations if not a.crowd))
        for photo in labelled.photos
    ]
    with atomic_folder(out) as unfinished:
        groups = _groups(pool, group, near, report)
        if len(groups) < len(shares):
            raise DatasetError(f"{len(pool)} images in {len(groups)} groups are too few for {len(shares)} splits")
        parts = _assign(groups, shares, random.Random(seed))
        for split, entries in parts.items():
            writer = SplitWriter(unfinished / split, categories, about)
            _write(writer, unfinished / split / "images", entries, link=link)
    return {
        split: PartCounts(len(entries), sum((entry.classes for entry in entries), Counter()))
        for split, entries in parts.items()
    }


def _categories(labelled: LabelledSet) -> list[dict[str, Any]]:
    """The classes with ids from 1; other keys are those of the first file that has them."""
    records: dict[str, dict[str, Any]] = {}
    for file in labelled.files.values():
        for category in sorted(file.categories, key=lambda category: category["id"]):
            records[category["name"]] = {**category, **records.get(category["name"], {})}
    return [{**records[name], "id": number} for number, name in enumerate(labelled.classes, start=1)]


def _groups(pool: Sequence[_Entry], pattern: str | None, near: int, report: Progress) -> list[list[_Entry]]:
    """Images that must stay together: the connected parts of "near-duplicate of" and "same match as"."""
    expression = None
    if pattern is not None:
        try:
            expression = re.compile(pattern)
        except re.error as error:
            raise DatasetError(f"{pattern!r} is not a regular expression: {error}") from None

    def fingerprint(entry: _Entry) -> int:
        return probe_file(entry.photo.path, fingerprint=True).fingerprint or 0

    prints = []
    with report.stage("comparing", len(pool), "images") as advance, ThreadPoolExecutor(os.cpu_count()) as threads:
        for value in threads.map(fingerprint, pool):
            prints.append(value)
            advance(1)
    leader = list(range(len(pool)))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    for a, b, _ in near_pairs(prints, near):
        leader[find(b)] = find(a)
    if expression is not None:
        first: dict[str, int] = {}
        for index, entry in enumerate(pool):
            if match := expression.search(entry.photo.path.name):
                key = match[1] if expression.groups else match[0]
                leader[find(index)] = find(first.setdefault(key, index))
    groups = defaultdict(list)
    for index, entry in enumerate(pool):
        groups[find(index)].append(entry)
    return list(groups.values())


def _assign(groups: list[list[_Entry]], shares: Mapping[str, float], rng: random.Random) -> dict[str, list[_Entry]]:
    """Hands out the groups so that images and instances of every class come near to the shares.

    First each, the largest at the front, to the split that lacks most images; then pairs drawn at random are swapped
    wherever that lowers the squared relative error of all counts.
    """
    totals = [sum((entry.classes for entry in group), Counter({_IMAGES: len(group)})) for group in groups]
    overall = sum(totals, Counter[str]())
    lacking = {split: {name: share * count for name, count in overall.items()} for split, share in shares.items()}
    order = list(range(len(groups)))
    rng.shuffle(order)
    order.sort(key=lambda index: -len(groups[index]))
    place: dict[int, str] = {}
    for done, index in enumerate(order):
        empty = [split for split in shares if split not in place.values()]
        # A split of a small share lacks little, but is to have a group all the same.
        wanting = empty if len(order) - done <= len(empty) else shares
        place[index] = max(wanting, key=lambda split: lacking[split][_IMAGES])
        _move(lacking[place[index]], totals[index], 1)

    def error(split: str, change: Counter[str], sign: int) -> float:
        """Squared relative error of the split's counts of what changes, after the change."""
        return sum(
            ((lacking[split][name] - sign * count) / (overall[name] * shares[split])) ** 2
            for name, count in change.items()
        )

    for _ in range(_SWAPS * len(groups)):
        a, b = rng.randrange(len(groups)), rng.randrange(len(groups))
        here, there = place[a], place[b]
        change = Counter(totals[b])
        change.subtract(totals[a])
        if here != there and (
            error(here, change, 1) + error(there, change, -1) < error(here, change, 0) + error(there, change, 0)
        ):
            _move(lacking[here], change, 1)
            _move(lacking[there], change, -1)
            place[a], place[b] = there, here
    return {
        split: [e for index, group in enumerate(groups) if place[index] == split for e in group] for split in shares
    }


def _move(lacking: dict[str, float], counts: Counter[str], sign: int) -> None:
    for name, count in counts.items():
        lacking[name] -= sign * count


def _write(writer: SplitWriter, folder: Path, entries: Sequence[_Entry], *, link: bool) -> None:
    photos = sorted((entry.photo for entry in entries), key=lambda photo: photo.path.name)
    for photo, name in place_photos(photos, folder, link=link):
        annotations = ({**annotation.record, "category_id": annotation.class_id} for annotation in photo.annotations)
        writer.add({**photo.record, "file_name": name, "width": photo.width, "height": photo.height}, annotations)
    writer.write()
