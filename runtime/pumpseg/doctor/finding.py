"""What one check found."""

from __future__ import annotations

import dataclasses
from typing import Any

OK, NOTE, FAULT = "ok", "note", "fault"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    status: OK, NOTE for what is as it may be but worth knowing, FAULT for what is wrong. mend: what to do about it,
    where possible a line for a shell.
    """

    topic: str
    status: str
    text: str
    mend: str = ""

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in dataclasses.asdict(self).items() if value}
