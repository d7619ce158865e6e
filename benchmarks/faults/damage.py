"""Damage that disks, networks and people do to files: bytes, JSON, and the protobuf of a model."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

_HOSTILE: list[Callable[[], Any]] = [
    lambda: None,
    lambda: True,
    lambda: -1,
    lambda: 0,
    lambda: 2**70,
    lambda: 1e300,
    lambda: -0.5,
    lambda: float("inf"),
    lambda: float("nan"),
    lambda: "",
    lambda: "\0",
    lambda: "../../../../etc/passwd",
    lambda: "/etc/passwd",
    lambda: "x" * 5000,
    lambda: "\ud800",
    lambda: "1e400",
    list,
    dict,
    lambda: [[[[[[]]]]]],
    lambda: [1, 2, 3],
    lambda: {"size": [10**9, 10**9], "counts": "00"},
]


def damage_bytes(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """The data with one kind of damage, and what that is."""
    if not data:
        return data, "empty"
    place = rng.randrange(len(data))
    length = 1 + rng.randrange(min(4096, len(data)))
    kind = rng.choice(["cut", "bits", "bits in the header", "zeros", "repeated", "left out", "noise"])
    changed = bytearray(data)
    if kind == "cut":
        del changed[place:]
    elif kind.startswith("bits"):
        first = min(len(data), 64 if kind.endswith("header") else len(data))
        for _ in range(rng.choice([1, 3, 30, 300])):
            changed[rng.randrange(first)] ^= 1 << rng.randrange(8)
    elif kind == "zeros":
        changed[place : place + length] = bytes(len(changed[place : place + length]))
    elif kind == "repeated":
        changed[place:place] = data[place : place + length]
    elif kind == "left out":
        del changed[place : place + length]
    else:
        changed[place : place + length] = rng.randbytes(len(changed[place : place + length]))
    return bytes(changed), f"{kind} at {place}"


def damage_json(value: Any, rng: random.Random) -> tuple[Any, str]:
    """A copy of a JSON value in which one to three of its parts are replaced, left out or doubled."""
    changed = copy.deepcopy(value)
    done = []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        parent, key = _any_place(changed, rng)
        if parent is None:
            continue
        kind = rng.choice(["replaced", "replaced", "replaced", "left out", "doubled", "of another"])
        if kind == "replaced":
            parent[key] = rng.choice(_HOSTILE)()
        elif kind == "left out":
            del parent[key]
        elif kind == "doubled" and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
        else:
            other, at = _any_place(changed, rng)
            parent[key] = copy.deepcopy(other[at]) if other is not None else None
        done.append(f"{key} {kind}")
    return changed, ", ".join(done)


def _any_place(value: Any, rng: random.Random) -> tuple[Any, Any]:
    """A container in a JSON value and a key of it: deep places are as likely as shallow ones."""
    parent, key = None, None
    while isinstance(value, (dict, list)) and value:
        parent, key = value, rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
        if rng.random() < 0.3:
            break
        value = value[key]
    return parent, key
