"""Text files as editors on all systems write them: UTF-8, or whatever the byte order mark says."""

import codecs
import json
from pathlib import Path
from typing import Any

_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def read_text(path: Path) -> str:
    """The text of a file. Raises OSError, and UnicodeDecodeError, which is a ValueError."""
    content = path.read_bytes()
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            return content.removeprefix(mark).decode(encoding)
    return content.decode("utf-8")


def read_json(path: Path) -> Any:
    """The content of a json file. Raises OSError and ValueError."""
    return json.loads(read_text(path))
