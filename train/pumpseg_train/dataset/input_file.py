"""Files of a data set that others wrote: regular ones only, text in the encoding of its byte order mark."""

import codecs
import json
from pathlib import Path
from typing import Any

from pumpseg.errors import DatasetError

# That of UTF-32 begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_ZIP = b"PK\x03\x04"


def read_bytes(path: Path) -> bytes:
    """What a file holds. Raises DatasetError for one that is missing, unreadable, a folder, a pipe or a device."""
    try:
        if path.exists() and not path.is_file():
            raise DatasetError(f"cannot read {path}: it is not a regular file")
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:  # a NUL in the name
        raise DatasetError(f"cannot read {str(path)!r}: {error}") from None


def read_text(path: Path) -> str:
    """The text of a file: UTF-8, or what its byte order mark says. Raises DatasetError."""
    content = read_bytes(path)
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
        if "\0" in text:
            raise ValueError("it has NUL characters")
    except ValueError as error:
        raise DatasetError(
            f"{path} is not UTF-8 text ({error}): save it as UTF-8, or iconv -f gb18030 -t utf-8 if it was written so"
        ) from None
    return text


def read_json(path: Path, what: str) -> Any:
    """The content of a json file; what: the format that is expected, for the message. Raises DatasetError."""
    try:
        return json.loads(read_text(path))
    except ValueError as error:
        raise DatasetError(f"{path} is not {what}: {error}") from None
    except RecursionError:
        raise DatasetError(f"{path} is not {what}: it is nested too deeply") from None


def refuse_zip(source: Path) -> None:
    """Raises DatasetError for a zip archive, whatever its name."""
    if not source.is_file():
        return
    with source.open("rb") as file:
        begins = file.read(len(_ZIP))
    if begins == _ZIP:
        raise DatasetError(f"{source} is a zip archive: unpack it, and name the folder")
