"""Divides a data set anew: near-duplicates stay together, classes are spread evenly."""

import json
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
from pumpseg_train.dataset.atomic_folder import new_folder, place_image
from pumpseg_train.dataset.check import NEAR, near_pairs
from pumpseg_train.dataset.image_probe import examine
from pumpseg_train.dataset.provenance import pool_about
from pumpseg_train.dataset.raw_files import ANNOTATIONS, SplitFile
from pumpseg_train.progress import Progress

_IMAGES = ""  # counted like a class
_SWAPS = 100  # tried for every group


@dataclass(frozen=True, eq=False)
class _Entry:
    """An image of the pool with its annotations, and how many instances of which class they are."""

    path: Path
    image: dict[str, Any]
    annotations: tuple[dict[str, Any], ...]
    classes: Counter[str]


@dataclass(frozen=True)
class PartCounts:
    """What a split got: images, and instances by class."""

    images: int
    instances: Counter[str]


def divide(
    sources: Sequence[SplitFile],
    out: Path,
    shares: Mapping[str, float],
    report: Progress,
    *,
    seed: int = 0,
    group: str | None = None,
    near: int = NEAR,
    link: bool = False,
) -> dict[str, PartCounts]:
    """Pools `sources` and writes the new folder `out` with the splits of `shares`, which add up to 1.

    Images whose perceptual hashes differ in at most `near` bits come into one split, and so do those whose names
    have the same match of the regular expression `group` (its first bracket, if there is one).
    Raises DatasetError.
    """
    categories = _categories(sources)
    about, sources = pool_about(sources)
    pool = _pool(sources)
    with new_folder(out) as unfinished:
        groups = _groups(pool, group, near, report)
        if len(groups) < len(shares):
            raise DatasetError(f"{len(pool)} images in {len(groups)} groups are too few for {len(shares)} splits")
        parts = _assign(groups, shares, random.Random(seed))
        for split, entries in parts.items():
            _write(unfinished / split, entries, categories, about, link=link)
    return {
        split: PartCounts(len(entries), sum((entry.classes for entry in entries), Counter()))
        for split, entries in parts.items()
    }


def _categories(sources: Sequence[SplitFile]) -> list[dict[str, Any]]:
    """The classes of all sources: in the order of the ids of the first, then those that only others have.

    Their ids are 1, 2, ...; other keys are those of the first source that has them.
    """
    categories: dict[str, dict[str, Any]] = {}
    for source in sources:
        for category in sorted(source.categories, key=lambda c: c["id"]):
            name = category["name"]
            categories[name] = category | categories.get(name, {})
    return [category | {"id": number} for number, category in enumerate(categories.values(), start=1)]


def _pool(sources: Sequence[SplitFile]) -> list[_Entry]:
    pool = []
    for source in sources:
        names = {category["id"]: category["name"] for category in source.categories}
        annotations = defaultdict(list)
        for annotation in source.annotations:
            if annotation["category_id"] not in names:
                raise DatasetError(f"{source.folder}: annotation {annotation['id']} is of an unknown category")
            annotations[annotation["image_id"]].append(annotation | {"category_id": names[annotation["category_id"]]})
        for image in source.images:
            own = tuple(annotations.get(image["id"], ()))
            classes = Counter(str(annotation["category_id"]) for annotation in own if not annotation.get("iscrowd"))
            pool.append(_Entry(source.path(image), image, own, classes))
    return pool


def _groups(pool: Sequence[_Entry], pattern: str | None, near: int, report: Progress) -> list[list[_Entry]]:
    """Images that must not be parted: the connected parts of "near-duplicate of" and "same match as"."""

    expression = None
    if pattern is not None:
        try:
            expression = re.compile(pattern)
        except re.error as error:
            raise DatasetError(f"{pattern!r} is no regular expression: {error}") from None

    def fingerprint(entry: _Entry) -> int:
        try:
            content = entry.path.read_bytes()
        except OSError as error:
            raise DatasetError(f"cannot read {entry.path}: {error.strerror}") from None
        return examine(content, str(entry.path), fingerprint=True).fingerprint or 0

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
            if match := expression.search(entry.path.name):
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


def _write(
    folder: Path,
    entries: Sequence[_Entry],
    categories: Sequence[dict[str, Any]],
    about: Mapping[str, Any],
    *,
    link: bool,
) -> None:
    (folder / "images").mkdir(parents=True)
    ids = {category["name"]: category["id"] for category in categories}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    taken: set[str] = set()
    for entry in sorted(entries, key=lambda entry: entry.path.name):
        name = place_image(entry.path, folder / "images", taken, link=link)
        images.append(entry.image | {"id": len(images) + 1, "file_name": name})
        for annotation in entry.annotations:
            own = {"id": len(annotations) + 1, "image_id": len(images), "category_id": ids[annotation["category_id"]]}
            annotations.append(annotation | own)
    content = {**about, "categories": categories, "images": images, "annotations": annotations}
    (folder / ANNOTATIONS).write_text(json.dumps(content) + "\n", encoding="utf-8")
