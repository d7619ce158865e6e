"""The photos: over plain HTTPS, several at a time, and decoded to find out what they are."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from pumpseg.errors import DatasetError
from pumpseg.redaction import redacted
from pumpseg_train.dataset.photo_file import PhotoInfo, probe, probe_file
from pumpseg_train.openimages.transfer import Transfer, TransferError

_DAMAGED_TRIES = 2  # a server that sends the same broken image twice will do so again


def fetch_photos(transfer: Transfer, what: str, urls: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Downloads `folder`/ID.jpg for every id of `urls`; a file is there only if all of it decodes.

    Returns the reason for every id that failed. what: the name of this stage of the work.
    """
    failures: dict[str, str] = {}

    def fetch(image_id: str) -> None:
        url = urls[image_id]
        for attempt in range(_DAMAGED_TRIES):
            try:
                content = transfer.fetch(url)
                probe(content, f"{image_id}.jpg")
            except TransferError as error:
                failures[image_id] = str(error)
                return
            except DatasetError as error:
                if attempt + 1 == _DAMAGED_TRIES:
                    failures[image_id] = f"{redacted(url)}: {error}"
                continue
            write_whole(folder / f"{image_id}.jpg", content)
            return

    folder.mkdir(parents=True, exist_ok=True)
    with transfer.report.stage(what, len(urls), "images") as advance:
        transfer.for_each(list(urls), fetch, advance)
    return failures


def probe_photos(
    transfer: Transfer, image_ids: Iterable[str], folder: Path
) -> tuple[dict[str, PhotoInfo], dict[str, str]]:
    """What every photo of these ids in the folder is, and the reason for the damaged ones."""
    ids = [image_id for image_id in image_ids if (folder / f"{image_id}.jpg").is_file()]
    infos: dict[str, PhotoInfo] = {}
    damaged: dict[str, str] = {}

    def check(image_id: str) -> None:
        name = f"{image_id}.jpg"
        try:
            infos[image_id] = probe_file(folder / name, name)
        except DatasetError as error:
            damaged[image_id] = str(error)

    with transfer.report.stage("checking images", len(ids), "images") as advance:
        transfer.for_each(ids, check, advance)
    return infos, damaged


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file that appears when it is complete."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)
