"""What the json files of a set say of it as a whole, pooled: where its photos come from and who may use them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pumpseg_train.dataset.labelled_set import LabelledSet, Photo

_LICENCES, _LICENCE = "licenses", "license"  # as COCO spells them
_SEPARATOR = "; "


def pool_about(labelled: LabelledSet) -> tuple[dict[str, Any], LabelledSet]:
    """`AnnotationsFile.about` of all splits in one, and the set with the licence ids that hold there.

    Texts that differ follow one another, lists have the items of all; of other values the first is kept.
    """
    about: dict[str, Any] = {}
    licences: dict[int, dict[str, Any]] = {}
    numbers = {}
    for split, file in labelled.files.items():
        own, rest = _licences_apart(file.about)
        numbers[split] = {licence["id"]: _number(licence, licences) for licence in own}
        about = _together(about, rest)
    if not licences:
        return about, labelled
    splits = {
        split: tuple(_licensed(photo, numbers[split]) for photo in photos) for split, photos in labelled.splits.items()
    }
    return {**about, _LICENCES: list(licences.values())}, replace(labelled, splits=splits)


def _licences_apart(about: Mapping[str, Any]) -> tuple[list[dict[str, Any]], Mapping[str, Any]]:
    """COCO's licences and the rest; a value of that key that is something else stays in the rest."""
    found = about.get(_LICENCES)
    if not isinstance(found, list) or not all(isinstance(e, dict) and isinstance(e.get("id"), int) for e in found):
        return [], about
    return found, {key: value for key, value in about.items() if key != _LICENCES}


def _number(licence: dict[str, Any], known: dict[int, dict[str, Any]]) -> int:
    """The id of a licence among the known ones, to which it is added: its own, or the next if that is taken."""
    for number, other in known.items():
        if licence | {"id": number} == other:
            return number
    number = licence["id"] if licence["id"] not in known else max(known) + 1
    known[number] = licence | {"id": number}
    return number


def _licensed(photo: Photo, numbers: Mapping[int, int]) -> Photo:
    """The photo with the new id of its licence, or without one where its file does not list that licence."""
    licence = photo.record.get(_LICENCE)
    if not isinstance(licence, int):
        return photo
    if licence in numbers:
        return replace(photo, record={**photo.record, _LICENCE: numbers[licence]})
    return replace(photo, record={key: value for key, value in photo.record.items() if key != _LICENCE})


def _together(first: Any, second: Any) -> Any:
    if isinstance(first, dict) and isinstance(second, dict):
        both = {key: _together(first[key], second[key]) for key in first.keys() & second.keys()}
        return {**first, **second, **both}
    if isinstance(first, list) and isinstance(second, list):
        return first + [item for item in second if item not in first]
    if isinstance(first, str) and isinstance(second, str) and second not in first.split(_SEPARATOR):
        return f"{first}{_SEPARATOR}{second}"
    return first
