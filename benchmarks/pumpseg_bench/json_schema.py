"""The JSON schema of a dataclass, from its fields' types and what `Annotated` says of them; and JSON read by them."""

from __future__ import annotations

import dataclasses
import math
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pumpseg.errors import printable

_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}


def schema_of(kind: Any) -> dict[str, Any]:
    """JSON schema, draft 2020-12, of what `json.dumps` makes of `dataclasses.asdict`.

    kind: a dataclass, str, int, float, bool, `X | None`, tuple[X, ...], tuple[X, X] or dict[str, X]; the text in
    Annotated[X, text] becomes the description. Raises KeyError for any other type.
    """
    arguments = get_args(kind)
    if get_origin(kind) is Annotated:
        return {"description": arguments[1], **schema_of(arguments[0])}
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind, include_extras=True)
        properties = {field.name: schema_of(hints[field.name]) for field in dataclasses.fields(kind)}
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
    if isinstance(kind, UnionType):
        return {"anyOf": [schema_of(argument) for argument in arguments]}
    if get_origin(kind) is dict:
        return {"type": "object", "additionalProperties": schema_of(arguments[1])}
    if get_origin(kind) is tuple:
        sides = {} if arguments[-1] is Ellipsis else {"minItems": len(arguments), "maxItems": len(arguments)}
        return {"type": "array", "items": schema_of(arguments[0]), **sides}
    return {"type": _TYPES[kind]}


def from_json(kind: Any, value: Any, where: str = "") -> Any:
    """What `schema_of(kind)` describes, made of JSON values. Fields that `kind` does not have are ignored; control
    characters of texts are escaped, and long ones cut.

    Raises ValueError with the place and what it must be.
    """
    arguments = get_args(kind)
    if get_origin(kind) is Annotated:
        return from_json(arguments[0], value, where)
    if dataclasses.is_dataclass(kind):
        _check(isinstance(value, dict), where, "an object")
        hints = get_type_hints(kind, include_extras=True)
        made = {}
        for field in dataclasses.fields(kind):
            _check(field.name in value, f"{where}.{field.name}", "there")
            made[field.name] = from_json(hints[field.name], value[field.name], f"{where}.{field.name}")
        return kind(**made)  # type: ignore[operator]
    if isinstance(kind, UnionType):
        if value is None and NoneType in arguments:
            return None
        return from_json(next(argument for argument in arguments if argument is not NoneType), value, where)
    if get_origin(kind) is dict:
        _check(isinstance(value, dict), where, "an object")
        return {printable(name): from_json(arguments[1], item, f"{where}.{name}") for name, item in value.items()}
    if get_origin(kind) is tuple:
        length = None if arguments[-1] is Ellipsis else len(arguments)
        _check(
            isinstance(value, list) and length in (None, len(value)),
            where,
            f"a list{f' of {length}' if length else ''}",
        )
        return tuple(from_json(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if kind is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        _check(number and math.isfinite(value), where, "a finite number")
        return float(value)
    _check(type(value) is kind, where, f"of the type {_TYPES[kind]}")
    return printable(value) if kind is str else value


def _check(right: bool, where: str, wanted: str) -> None:
    if not right:
        raise ValueError(f"{where.lstrip('.') or 'it'} must be {wanted}")
