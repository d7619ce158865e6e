"""Damage is drawn by a seed, changes something, and leaves the original alone."""

import json
import random

import pytest


@pytest.fixture(scope="module")
def damage(load_script):
    return load_script("damage")


def test_bytes(damage):
    data = bytes(range(256)) * 8
    some = [damage.damage_bytes(data, random.Random(seed))[0] for seed in range(50)]
    assert some == [damage.damage_bytes(data, random.Random(seed))[0] for seed in range(50)]
    assert sum(one == data for one in some) < 5
    assert damage.damage_bytes(b"", random.Random(0))[0] == b""


def test_json(damage):
    value = {"images": [{"id": 1, "name": "a"}, {"id": 2}], "more": {"x": [1, [2, 3]]}}
    before = json.dumps(value)
    some = [json.dumps(damage.damage_json(value, random.Random(seed))[0]) for seed in range(50)]
    assert json.dumps(value) == before
    assert len(set(some)) > 25
    assert damage.damage_json(3, random.Random(0))[0] == 3
