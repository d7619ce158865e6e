"""What the json files of a set say of it as a whole, said by one: where its photos come from, who may use them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pumpseg_train.dataset.raw_files import SplitFile

_LICENCES, _LICENCE = "licenses", "license"  # as COCO spells them
_BETWEEN = "; "


def pool_about(sources: Sequence[SplitFile]) -> tuple[dict[str, Any], list[SplitFile]]:
    """`SplitFile.about` of all sources in one, and the sources with the licence ids that hold there.

    Texts that differ follow one another, lists have the items of all; of other values the first is kept.
    """
    about: dict[str, Any] = {}
    licences: dict[int, dict[str, Any]] = {}
    numbers = []
    for source in sources:
        own, rest = _licences_apart(source.about)
        numbers.append({licence["id"]: _number(licence, licences) for licence in own})
        about = _together(about, rest)
    if not licences:
        return about, list(sources)
    images = [
        [_licensed(image, known) for image in source.images] for source, known in zip(sources, numbers, strict=True)
    ]
    pooled = [replace(source, images=own) for source, own in zip(sources, images, strict=True)]
    return {**about, _LICENCES: list(licences.values())}, pooled


def _licences_apart(about: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """COCO's licences and the rest, which they stay in where they are something else."""
    found = about.get(_LICENCES)
    if not isinstance(found, list) or not all(isinstance(e, dict) and isinstance(e.get("id"), int) for e in found):
        return [], about
    return found, {key: value for key, value in about.items() if key != _LICENCES}


def _number(licence: dict[str, Any], known: dict[int, dict[str, Any]]) -> int:
    """The id of a licence among those known, which it joins: its own, or the next where another has that."""
    for number, other in known.items():
        if licence | {"id": number} == other:
            return number
    number = licence["id"] if licence["id"] not in known else max(known) + 1
    known[number] = licence | {"id": number}
    return number


def _licensed(image: dict[str, Any], numbers: Mapping[int, int]) -> dict[str, Any]:
    """The image with the new id of its licence; without one that its file does not explain, which another may have."""
    licence = image.get(_LICENCE)
    if not isinstance(licence, int):
        return image
    if licence in numbers:
        return image | {_LICENCE: numbers[licence]}
    return {key: value for key, value in image.items() if key != _LICENCE}


def _together(first: Any, second: Any) -> Any:
    if isinstance(first, dict) and isinstance(second, dict):
        both = {key: _together(first[key], second[key]) for key in first.keys() & second.keys()}
        return {**first, **second, **both}
    if isinstance(first, list) and isinstance(second, list):
        return first + [item for item in second if item not in first]
    if isinstance(first, str) and isinstance(second, str) and second not in first.split(_BETWEEN):
        return f"{first}{_BETWEEN}{second}"
    return first
