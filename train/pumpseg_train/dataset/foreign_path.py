"""Paths that were written on another machine, or by a server, found below a folder of this one."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PureWindowsPath
from urllib.parse import unquote

_MAX_PART = 255  # bytes, on nearly every file system


def tails(name: str) -> Iterator[Path]:
    """The path itself and what is left of it without its first parts, longest first: a/b/c, b/c, c.

    None of them is absolute or leads upwards; drives, servers and the dots of `./` and `../` are left out.
    Raises ValueError for a name that no file can have.
    """
    anywhere, here = PureWindowsPath(name), Path(name)
    parts = [part for part in anywhere.parts if part not in ("..", ".", anywhere.anchor, anywhere.drive)]
    if "\0" in name or any(len(os.fsencode(part)) > _MAX_PART for part in parts):
        raise ValueError(f"no file can have the name {name!r:.60}")
    if not here.anchor and ".." not in here.parts:
        yield here  # backslashes and colons are letters on some systems
    yield from (Path(*parts[start:]) for start in range(len(parts)))


def find_photo(places: Sequence[Path], name: str) -> Path:
    """The file in one of the folders `places` that a label file means by `name`.

    That is the longest tail of it that exists, as it is or as the address that it may be; where none does, all of it
    in the first folder, but never a path out of that. Raises ValueError for a name that no file can have.
    """
    address = unquote(name).replace("?d=", "/")  # of files that Label Studio serves
    for tail in sorted([*tails(name), *tails(address)], key=lambda tail: -len(tail.parts)):
        for place in places:
            if (place / tail).is_file():
                return place / tail
    return places[0] / next(tails(name), Path())


def is_elsewhere(path: Path, name: str) -> bool:
    """Whether a photo was found by less than the whole of its name."""
    return not f"/{path.as_posix()}".endswith(f"/{name.removeprefix('./')}")
