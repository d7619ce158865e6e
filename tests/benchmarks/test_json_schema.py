from dataclasses import dataclass
from typing import Annotated

import jsonschema
import pytest

from pumpseg_bench.json_schema import from_json, schema_of


@dataclass
class Inner:
    name: str
    ratio: Annotated[float | None, "0..1"]


@dataclass
class Outer:
    size: Annotated[tuple[int, int], "height and width"]
    inner: Inner | None
    all: tuple[Inner, ...]
    counts: dict[str, int]
    right: bool


def test_every_type_has_its_schema():
    properties = schema_of(Outer)["properties"]
    assert properties["size"] == {
        "description": "height and width",
        "type": "array",
        "items": {"type": "integer"},
        "minItems": 2,
        "maxItems": 2,
    }
    inner = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "ratio": {"description": "0..1", "anyOf": [{"type": "number"}, {"type": "null"}]},
        },
        "required": ["name", "ratio"],
        "additionalProperties": False,
    }
    assert properties["inner"] == {"anyOf": [inner, {"type": "null"}]}
    assert properties["all"] == {"type": "array", "items": inner}
    assert properties["counts"] == {"type": "object", "additionalProperties": {"type": "integer"}}
    assert properties["right"] == {"type": "boolean"}


@pytest.mark.parametrize(
    "wrong",
    [{}, {"size": [1, 2, 3]}, {"inner": {"name": "a"}}, {"counts": {"a": "many"}}, {"more": 1}],
)
def test_other_values_are_refused(wrong):
    right = {"size": [1, 2], "inner": None, "all": [{"name": "a", "ratio": 0.5}], "counts": {"a": 1}, "right": True}
    jsonschema.validate(right, schema_of(Outer))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**right, **wrong} if wrong else {}, schema_of(Outer))


def test_a_type_that_json_has_not_is_refused():
    with pytest.raises(KeyError):
        schema_of(bytes)


RIGHT = {"size": [1, 2], "inner": None, "all": [{"name": "a", "ratio": 1}], "counts": {"a": 1}, "right": True}


def test_values_are_read_by_their_types():
    value = from_json(Outer, {**RIGHT, "more": 1})
    assert value == Outer((1, 2), None, (Inner("a", 1.0),), {"a": 1}, True)
    assert from_json(Outer, {**RIGHT, "inner": {"name": "b\x1b[2J", "ratio": None}}).inner == Inner("b\\x1b[2J", None)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": [1, 2, 3]}, "size must be a list of 2"),
        ({"inner": {"name": "a"}}, "inner.ratio must be there"),
        ({"inner": 1}, "inner must be an object"),
        ({"all": [{"name": "a", "ratio": float("inf")}]}, r"all\[0\].ratio must be a finite number"),
        ({"counts": {"a": True}}, "counts.a must be of the type integer"),
        ({"counts": []}, "counts must be an object"),
        ({"right": 1}, "right must be of the type boolean"),
    ],
)
def test_wrong_values_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        from_json(Outer, {**RIGHT, **wrong})
    with pytest.raises(ValueError, match="it must be an object"):
        from_json(Outer, [])
