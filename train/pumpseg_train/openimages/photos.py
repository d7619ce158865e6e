"""The photos: by plain HTTPS, several at a time; what they are is found out by decoding them."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TypeVar

from pumpseg.errors import DatasetError
from pumpseg_train.dataset.photo_file import PhotoInfo, probe
from pumpseg_train.openimages.addresses import Addresses
from pumpseg_train.openimages.transfer import Transfer, TransferError
from pumpseg_train.progress import Progress

Item = TypeVar("Item")

_DAMAGED_TRIES = 2  # a server that sends the same broken picture twice will do so again


def fetch_photos(
    transfer: Transfer,
    addresses: Addresses,
    split: str,
    image_ids: Sequence[str],
    folder: Path,
    jobs: int,
    report: Progress,
) -> dict[str, str]:
    """Downloads `folder`/ID.jpg for every id; a file is there only if all of it decodes.

    Returns why, for every id that could not be had.
    """
    failures: dict[str, str] = {}

    def fetch(image_id: str) -> None:
        url = addresses.image(split, image_id)
        for attempt in range(_DAMAGED_TRIES):
            try:
                content = transfer.fetch(url)
                probe(content, f"{image_id}.jpg")
            except TransferError as error:
                failures[image_id] = str(error)
                return
            except DatasetError as error:
                if attempt + 1 == _DAMAGED_TRIES:
                    failures[image_id] = f"{url}: {error}"
                continue
            write_whole(folder / f"{image_id}.jpg", content)
            return

    folder.mkdir(parents=True, exist_ok=True)
    with report.stage(f"{split} images", len(image_ids), "images") as advance:
        in_threads(transfer, fetch, image_ids, jobs, advance)
    return failures


def examine_photos(
    transfer: Transfer, image_ids: Iterable[str], folder: Path, jobs: int, report: Progress
) -> tuple[dict[str, PhotoInfo], dict[str, str]]:
    """What every photo of these ids is that lies in the folder, and why, for the ones that are damaged."""
    ids = [image_id for image_id in image_ids if (folder / f"{image_id}.jpg").is_file()]
    pictures: dict[str, PhotoInfo] = {}
    damaged: dict[str, str] = {}

    def check(image_id: str) -> None:
        path = folder / f"{image_id}.jpg"
        try:
            pictures[image_id] = probe(path.read_bytes(), path.name)
        except DatasetError as error:
            damaged[image_id] = str(error)

    with report.stage("checking images", len(ids), "images") as advance:
        in_threads(transfer, check, ids, jobs, advance)
    return pictures, damaged


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file that appears when it is complete."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)


def in_threads(
    transfer: Transfer, action: Callable[[Item], None], items: Sequence[Item], jobs: int, advance: Callable[[int], None]
) -> None:
    """Runs `action` for all items, `jobs` at a time; the first exception, or Ctrl-C, ends them all and is raised."""
    with ThreadPoolExecutor(jobs, thread_name_prefix="pumpseg-data") as pool:
        futures: list[Future[None]] = []
        try:
            for item in items:
                future = pool.submit(action, item)
                future.add_done_callback(lambda _: advance(1))
                futures.append(future)
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        except BaseException:
            transfer.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
