"""Mask PNGs from the sixteen zip archives of a split, by range requests; the whole archive where that fails."""

import lzma
import struct
import threading
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

import remotezip
import requests

from pumpseg_train.openimages.addresses import file_name
from pumpseg_train.openimages.photos import write_whole
from pumpseg_train.openimages.transfer import GONE, NotThereError, Transfer, TransferError, TryAgainError

# What a connection that drops in the middle of a member, or a damaged archive, looks like from inside zipfile.
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError),
    *(RuntimeError, ValueError, OverflowError),  # encrypted, of an unknown method, dates and sizes that cannot be
)
_BROKEN = (*_DAMAGED, remotezip.RemoteZipError)
_BROKEN_TRIES = 3
MAX_MASK_BYTES = 1 << 26  # of a PNG; no mask of Open Images takes a thousandth of that
# One by one pays while few of an archive's members are needed.
MAX_SHARE, MAX_MEMBERS = 0.25, 1000
# The directory of one of the large archives takes 110 MB while it is read.
_OPENING = threading.Semaphore(2)

Save = Callable[[str, bytes], None]


class _NoRangesError(Exception):
    """The members cannot be read one by one."""


def fetch_masks(
    transfer: Transfer, what: str, archive: Callable[[str], str], names: Iterable[str], folder: Path
) -> dict[str, str]:
    """Downloads the named masks that are not in `folder` yet.

    what: the name of this stage of the work. archive: the URL of the archive of the names that begin with a character.
    Returns the reason for every mask that failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [name for name in dict.fromkeys(names) if not (folder / name).is_file()]
    by_archive = defaultdict(list)
    for name in missing:
        by_archive[name[0].lower()].append(name)
    failures: dict[str, str] = {}
    with transfer.report.stage(what, len(missing), "masks") as advance:

        def save(name: str, content: bytes) -> None:
            write_whole(folder / name, content)
            advance(1)

        def fetch(character: str) -> None:
            url = archive(character)
            left = by_archive[character]
            try:
                try:
                    _by_ranges(transfer, url, left, save, failures)
                except _NoRangesError as error:
                    transfer.report.note(f"{file_name(url)} is downloaded as a whole: {error}")
                    _as_a_whole(transfer, url, left, folder / file_name(url), save, failures)
            except TransferError as error:
                failures.update(dict.fromkeys(left, str(error)))

        transfer.for_each(sorted(by_archive), fetch)
    return failures


def _by_ranges(transfer: Transfer, url: str, left: list[str], save: Save, failures: dict[str, str]) -> None:
    """Reads members one by one and removes them from `left`. Raises NotThereError, TransferError, _NoRangesError."""
    broken: dict[str, int] = {}

    def read_on() -> None:
        at = ""
        try:
            with _OPENING:
                archive = remotezip.RemoteZip(url, session=transfer.session, timeout=transfer.timeout)
                wanted, count = set(left), len(archive.filelist)
                named = ((PurePosixPath(member.filename).name, member) for member in archive.filelist)
                members = {name: member for name, member in named if name in wanted}
                archive.filelist.clear()
                archive.NameToInfo.clear()
            with archive:
                if len(left) > max(MAX_MEMBERS, MAX_SHARE * count):
                    raise _NoRangesError(f"{len(left)} of its {count} members are needed")
                while left:
                    if transfer.stop.is_set():
                        raise KeyboardInterrupt
                    at = left[-1]
                    if at in members and members[at].file_size > MAX_MASK_BYTES:
                        failures[at] = _too_large(url, at)
                    elif at in members:
                        save(at, archive.read(members[at]))
                    else:
                        failures[at] = f"{file_name(url)} has no {at}"
                    left.pop()
        except remotezip.RangeNotSupported:
            raise _NoRangesError("the server sends no ranges") from None
        except _BROKEN as error:
            cause = error.__context__
            if isinstance(cause, requests.HTTPError) and cause.response is not None:
                if cause.response.status_code in GONE:
                    raise NotThereError(f"{url}: the server answers {cause.response.status_code}") from None
            elif isinstance(error, _DAMAGED):
                broken[at] = broken.get(at, 0) + 1
                if broken[at] == _BROKEN_TRIES:
                    raise _NoRangesError(str(error) or "a member is cut short") from None
            raise TryAgainError(str(error) or type(error).__name__) from None

    transfer.persist(url, read_on, progress=lambda: -len(left))


def _as_a_whole(
    transfer: Transfer, url: str, left: list[str], path: Path, save: Save, failures: dict[str, str]
) -> None:
    transfer.download(url, path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = {PurePosixPath(member.filename).name: member for member in archive.infolist()}
            for name in left:
                try:
                    if members[name].file_size > MAX_MASK_BYTES:
                        failures[name] = _too_large(path.name, name)
                        continue
                    save(name, archive.read(members[name]))
                except KeyError:
                    failures[name] = f"{path.name} has no {name}"
                except _BROKEN as error:
                    failures[name] = f"{path.name}: {name} is damaged: {error}"
    except _DAMAGED as error:
        failures.update(dict.fromkeys(left, f"{path.name} is cut short or damaged: {error}"))
    finally:
        path.unlink(missing_ok=True)


def _too_large(archive: str, name: str) -> str:
    # zipfile reads no more than the size that a member announces.
    return f"{file_name(archive)}: {name} is larger than {MAX_MASK_BYTES >> 20} MiB"
