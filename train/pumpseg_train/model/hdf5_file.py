"""Checks an HDF5 file before its weights are read: it is data from someone else, and HDF5 follows references.

Run as a program with the path of a file, it reads all of it: HDF5 crashes on some damage and loops for ever on other.
"""

import functools
import subprocess
import sys
from collections.abc import Iterator
from math import prod
from pathlib import Path

import h5py

_MAX_OBJECTS = 100_000
_MAX_DEPTH = 50
_MAX_EXPANSION = 20  # bytes of all arrays by bytes of the file: float weights shrink to a half at best
MAX_SECONDS = 60
"""For which HDF5 may read a file: on some damage it never ends."""
_SMALL = 1 << 20  # bytes in which no one looks for an expansion
_FILTERS = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32)
_NUMBERS = "biuf"


def check_hdf5_file(path: Path) -> None:
    """`check_structure`, and a trial in another process, which does not take this one down, that all can be read.

    Raises ValueError or OSError.
    """
    about = path.stat()
    _try_reading(path, about.st_mtime_ns, about.st_size)


@functools.lru_cache(maxsize=256)
def _try_reading(path: Path, *_version: int) -> None:
    # -P: this folder's modules are not the standard library's.
    command = [sys.executable, "-P", __file__, str(path.absolute())]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=MAX_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"HDF5 did not read it in {MAX_SECONDS} s: it is damaged") from None
    if done.returncode:
        raise ValueError(done.stdout.strip() or "HDF5 cannot read it: it is damaged")


def check_structure(path: Path) -> None:
    """Raise ValueError or OSError unless a file holds groups and arrays of numbers, and all of them itself.

    Refused are links other than those to groups and arrays in it, arrays whose data are in other files or views of
    other arrays, arrays of objects or text, filters that need a plug-in, cycles, and arrays much larger than the file.
    """
    with h5py.File(path) as file:
        allowed = max(_SMALL, _MAX_EXPANSION * path.stat().st_size)
        for number, array in enumerate(_arrays(file)):
            allowed -= _size(array)
            if allowed < 0:
                raise ValueError(f"its arrays are more than {_MAX_EXPANSION} times as large as the file")
            if number >= _MAX_OBJECTS:
                raise ValueError(f"it has more than {_MAX_OBJECTS} arrays")


def _arrays(file: h5py.File) -> Iterator[h5py.h5d.DatasetID]:
    """Every data set, none opened through a link that leads elsewhere."""
    waiting, seen = [(file.id, 0)], {h5py.h5o.get_info(file.id).addr}
    while waiting:
        group, depth = waiting.pop()
        for name in group:
            if group.links.get_info(name).type != h5py.h5l.TYPE_HARD:
                raise ValueError(f"{_shown(name)} is a link, which weights files do not have")
            about = h5py.h5o.get_info(group, name)
            if about.addr in seen or len(seen) > _MAX_OBJECTS or depth > _MAX_DEPTH:
                raise ValueError(f"{_shown(name)} is in it several times, or too deep")
            seen.add(about.addr)
            if about.type == h5py.h5o.TYPE_GROUP:
                waiting.append((h5py.h5g.open(group, name), depth + 1))
            elif about.type == h5py.h5o.TYPE_DATASET:
                yield h5py.h5d.open(group, name)
            else:
                raise ValueError(f"{_shown(name)} is neither a group nor an array")


def _size(array: h5py.h5d.DatasetID) -> int:
    """Bytes of an array in memory. Raises ValueError unless it is of numbers that are in the file itself."""
    how = array.get_create_plist()
    if how.get_layout() == h5py.h5d.VIRTUAL or how.get_external_count():
        raise ValueError("an array's data are in other files or arrays, which weights files do not have")
    if any(how.get_filter(number)[0] not in _FILTERS for number in range(how.get_nfilters())):
        raise ValueError("an array is compressed in a way that needs a plug-in")
    kind = array.dtype
    if kind.kind not in _NUMBERS or kind.hasobject:
        raise ValueError(f"an array is of {kind}, not of numbers")
    return prod(array.shape) * kind.itemsize


def _shown(name: bytes) -> str:
    return repr(name[:100].decode(errors="replace"))


def _read_all(path: Path) -> None:
    with h5py.File(path) as file:
        dict(file.attrs)
        file.visititems(_read)


def _read(_name: str, item: h5py.Group | h5py.Dataset) -> None:
    dict(item.attrs)
    if isinstance(item, h5py.Dataset):
        item[()]


if __name__ == "__main__":
    try:
        check_structure(Path(sys.argv[1]))
        _read_all(Path(sys.argv[1]))
    except Exception as error:  # h5py raises nearly anything for a damaged file
        print(" ".join(str(error).split()) or type(error).__name__)
        sys.exit(1)
