"""Folders that get their name only when everything is in them, and images put into them."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pumpseg.errors import DatasetError, PumpsegError
from pumpseg_train.dataset.labelled_set import Photo


@contextmanager
def atomic_folder(out: Path) -> Iterator[Path]:
    """Yields a temporary folder to fill, which becomes `out` at the end, or is removed after an error.

    An empty folder `out` stays where it is, as the working directory or a mounted disk must.
    Raises DatasetError, before anything is done, where `out` is not empty or new, or cannot be written.
    """
    place = Path(os.path.realpath(out))
    try:
        there = place.exists()
        if there and (not place.is_dir() or any(place.iterdir())):
            raise DatasetError(f"{out} is not an empty folder: name a new one, or remove it first")
        if there:
            unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=place))
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            unfinished = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    except OSError as error:
        raise DatasetError(f"cannot write {out}: {error.strerror}") from error
    try:
        yield unfinished
        if there:
            for path in list(unfinished.iterdir()):
                path.rename(place / path.name)
        else:
            unfinished.chmod(0o755)  # mkdtemp keeps others out
            unfinished.rename(place)
    except PumpsegError:
        raise
    except OSError as error:
        raise DatasetError(f"cannot write {out}: {error.strerror}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def place_photos(photos: Iterable[Photo], folder: Path, *, link: bool) -> Iterator[tuple[Photo, str]]:
    """Makes `folder` and copies, or hard-links where that is possible, the photos into it; yields each with its name.

    Names differ even without their suffixes and in lower case, since most formats match labels by them.
    """
    folder.mkdir(parents=True)
    taken: set[str] = set()
    for photo in photos:
        yield photo, _place(photo.path, folder, taken, link=link)


def _place(source: Path, folder: Path, taken: set[str], *, link: bool) -> str:
    name, number = source.name, 2
    while Path(name).stem.lower() in taken:
        name = f"{source.stem}-{number}{source.suffix}"
        number += 1
    taken.add(Path(name).stem.lower())
    if link:
        try:
            os.link(source, folder / name)
            return name
        except OSError:
            pass  # another file system
    shutil.copyfile(source, folder / name)
    return name
