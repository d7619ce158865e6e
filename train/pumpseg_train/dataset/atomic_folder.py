"""Folders that get their name only when everything is in them, and images put into them."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pumpseg.atomic_file import partial_name, remove_abandoned, sync_file, sync_tree
from pumpseg.errors import DatasetError, PumpsegError
from pumpseg.file_lock import make_locked_folder
from pumpseg_train.dataset.labelled_set import Photo


@contextmanager
def atomic_folder(out: Path) -> Iterator[Path]:
    """Yields a temporary folder to fill, which becomes `out` at the end, or is removed after an error.

    An empty folder `out` stays where it is, as the working directory or a mounted disk must. The files are on the disk
    before they have their names; what a killed process left of the same folder is removed.
    Raises DatasetError, before anything is done, where `out` is not empty or new, or cannot be written.
    """
    place = Path(os.path.realpath(out))
    refusal = DatasetError(f"{out} is not an empty folder: name a new one, or remove it first")
    try:
        there = place.exists()
        if there and not place.is_dir():
            raise refusal
        folder = place if there else place.parent
        folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(folder / place.name)
        if there and any(place.iterdir()):
            raise refusal
        unfinished = folder / partial_name(place.name)
        lock = make_locked_folder(unfinished)
    except OSError as error:
        raise DatasetError(f"cannot write {out}: {error.strerror}") from error
    try:
        yield unfinished
        sync_tree(unfinished)
        if there:
            for path in list(unfinished.iterdir()):
                path.rename(place / path.name)
        else:
            unfinished.rename(place)
        sync_file(folder)
    except PumpsegError:
        raise
    except OSError as error:
        raise DatasetError(f"cannot write {out}: {error.strerror}") from error
    finally:
        if lock is not None:
            os.close(lock)
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
