"""The JSON schema of a dataclass, from its fields' types and what `Annotated` says of them."""

from __future__ import annotations

import dataclasses
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

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
