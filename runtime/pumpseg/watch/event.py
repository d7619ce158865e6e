"""An event: what a rule reports about a camera, and how it is written as JSON."""

from __future__ import annotations

import base64
import binascii
import json
import math
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

Value: TypeAlias = float | int | str

EVENT_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "pumpseg event",
    "type": "object",
    "properties": {
        "id": {
            "description": "UUIDv7: unique, and ids sort by time",
            "type": "string",
            "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$",
        },
        "time": {
            "description": "when the frame arrived, UTC, in milliseconds",
            "type": "string",
            "format": "date-time",
            "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$",
        },
        "camera": {"description": "its name in the configuration", "type": "string"},
        "rule": {"description": "its name in the configuration", "type": "string"},
        "values": {
            "description": "what the rule measured, by name",
            "type": "object",
            "additionalProperties": {"type": ["number", "string"]},
        },
        "track_ids": {"description": "of the instances that caused it", "type": "array", "items": {"type": "integer"}},
        "snapshot": {"description": "the frame as JPEG", "type": "string", "contentEncoding": "base64"},
    },
    "required": ["id", "time", "camera", "rule", "values", "track_ids"],
    "additionalProperties": False,
}
"""JSON schema of `Event.to_json`."""

_id_lock = threading.Lock()
_last_id = 0


def new_event_id() -> str:
    """A UUIDv7 (RFC 9562, section 5.7) that sorts behind all others of this process, also within a millisecond."""
    global _last_id
    milliseconds = int(datetime.now(UTC).timestamp() * 1000)
    random = int.from_bytes(os.urandom(10))
    number = milliseconds << 80 | 7 << 76 | (random >> 68 & 0xFFF) << 64 | 2 << 62 | random & (1 << 62) - 1
    with _id_lock:
        # A clock that was set back, or the same millisecond: the last 62 bits count up.
        number = _last_id = number if number > _last_id else _last_id + 1
    digits = f"{number:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


@dataclass(frozen=True)
class Event:
    """What a rule reports about a camera.

    id: unique, sorts by time, see `new_event_id`. time: when the frame arrived, with a time zone. camera, rule: their
    names in the configuration. values: what the rule measured, by name. track_ids: of the instances that caused it.
    snapshot: JPEG of the annotated frame; None for an event without a frame. blurred_snapshot: the same with the chosen
    classes blurred, for what leaves the machine.
    NumPy's numbers become plain ones. Raises ValueError for a time without a zone, and values that JSON lacks.
    """

    id: str
    time: datetime
    camera: str
    rule: str
    values: Mapping[str, Value] = field(default_factory=dict)
    track_ids: tuple[int, ...] = ()
    snapshot: bytes | None = field(default=None, repr=False)
    blurred_snapshot: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.time.tzinfo is None:
            raise ValueError(f"the time of an event needs a time zone, {self.time} has none")
        plain = {name: _plain(value) for name, value in self.values.items()}
        for name, value in plain.items():
            if not isinstance(value, (int, float, str)) or (isinstance(value, float) and not math.isfinite(value)):
                raise ValueError(f"the value {name} of an event must be a finite number or a text, not {value!r}")
        object.__setattr__(self, "values", plain)
        object.__setattr__(self, "track_ids", tuple(int(track_id) for track_id in self.track_ids))

    def to_json(self, snapshot: bytes | None = None) -> str:
        """One line of JSON, see `EVENT_SCHEMA`. snapshot: a JPEG to include; none by default."""
        moment = self.time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        record: dict[str, Any] = {
            "id": self.id,
            "time": moment,
            "camera": self.camera,
            "rule": self.rule,
            "values": self.values,
            "track_ids": list(self.track_ids),
        }
        if snapshot is not None:
            record["snapshot"] = base64.b64encode(snapshot).decode("ascii")
        return json.dumps(record, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Event:
        """The event that `to_json` wrote, with its snapshot. Raises ValueError for anything else."""
        try:
            record = json.loads(text)
            snapshot = record.get("snapshot")
            return cls(
                id=record["id"],
                time=datetime.fromisoformat(record["time"]),
                camera=record["camera"],
                rule=record["rule"],
                values=record["values"],
                track_ids=tuple(record["track_ids"]),
                snapshot=None if snapshot is None else base64.b64decode(snapshot, validate=True),
            )
        except (KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
            raise ValueError(f"not an event: {type(error).__name__} {error}") from None


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
