"""On which line of a TOML file a key is."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from typing import Any

Key = tuple[str | int, ...]
"""The way to a value: names of keys, and places in arrays from 0."""


def line_of(text: str, key: Key) -> int:
    """The line, from 1, on which a valid TOML text gives a key; of a key that is missing, that of its table.

    The beginning of a TOML text is valid at the end of every statement. The statement that gives a key is the first
    after which the key is there: found by bisection, with the standard library's parser.
    """
    lines = [f"{line}\n" for line in text.split("\n")]
    while key and not _has(tomllib.loads(text), key):
        key = key[:-1]
    if not key:
        return 1
    before, after = 0, len(lines)  # the key is not in lines[:before], and is in lines[:after]
    while after - before > 1:
        end, values = _longest_valid(lines, before, (before + after) // 2)
        if end == before:
            end, values = _shortest_valid(lines, (before + after) // 2 + 1, after)
            if end == after:
                break  # one statement of several lines
        if _has(values, key):
            after = end
        else:
            before = end
    return before + 1


def _longest_valid(lines: Sequence[str], least: int, most: int) -> tuple[int, Any]:
    for end in range(most, least, -1):
        try:
            return end, tomllib.loads("".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue
    return least, {}


def _shortest_valid(lines: Sequence[str], least: int, most: int) -> tuple[int, Any]:
    for end in range(least, most):
        try:
            return end, tomllib.loads("".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue
    return most, {}


def _has(values: Any, key: Key) -> bool:
    for part in key:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            return False
    return True
