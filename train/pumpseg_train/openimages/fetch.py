"""The whole way from class names to a data set, one split after the other, resumable at every step."""

import contextlib
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pumpseg.atomic_file import write_json
from pumpseg.errors import DatasetError
from pumpseg_train.dataset.photo_file import PhotoInfo
from pumpseg_train.openimages.addresses import SPLITS, Addresses, file_name
from pumpseg_train.openimages.archives import fetch_masks
from pumpseg_train.openimages.join import Plan, Region, Rules, annotate, make_plan
from pumpseg_train.openimages.oidv6 import Oidv6, fetch_with_oidv6
from pumpseg_train.openimages.photos import examine_photos, fetch_photos
from pumpseg_train.openimages.tables import Scan, TableError, find_classes, read_boxes, read_masks
from pumpseg_train.openimages.transfer import Transfer, TransferError
from pumpseg_train.progress import Progress

Rows = TypeVar("Rows")

WORK = ".open-images"  # masks and unfinished downloads, below the data set
MANIFEST = "manifest.json"
_FORMAT = 1


@dataclass(frozen=True)
class Request:
    """What is wanted. limit: images a split, drawn by `seed`; a higher limit adds to those of a lower one.

    oidv6: the program to get photos with, or None for HTTPS. cache: where the tables of all classes are kept.
    """

    classes: tuple[str, ...]
    out: Path
    splits: tuple[str, ...] = tuple(SPLITS)
    limit: int | None = None
    seed: int = 0
    jobs: int = 8
    rules: Rules = field(default_factory=Rules)
    addresses: Addresses = field(default_factory=Addresses)
    oidv6: Oidv6 | None = None
    oidv6_stall: float = 120.0
    cache: Path | None = None


@dataclass(frozen=True)
class SplitResult:
    """What came of a split. failures: what could not be had, and why; those images are not in the data set."""

    split: str
    images: int
    instances: int
    crowds: int
    failures: dict[str, str]
    counts: Counter[str]


def fetch_open_images(request: Request, transfer: Transfer, report: Progress) -> tuple[SplitResult, ...]:
    """Makes or completes the data set `request.out`.

    Every split's annotations.json is replaced as a whole, and lists only images that are there and decode, with
    all their masks; a split that has none to begin with is left out. manifest.json tells where everything came from,
    its SHA-256, and what is missing.
    Raises DatasetError, TransferError where there is nothing to make a data set of.
    """
    out = request.out
    manifest = _read_manifest(out)
    try:
        work = out / WORK
        work.mkdir(parents=True, exist_ok=True)
        cache = request.cache or work
        mids = _find_classes(request, cache, transfer, report)
        _same_classes(manifest, mids, request)
        results = []
        for split in request.splits:
            fetched = _fetch_split(request, split, mids, manifest, work, cache, transfer, report)
            if fetched is None:
                continue
            result, manifest["splits"][SPLITS[split]] = fetched
            manifest["request"] = {
                "classes": mids,
                "limit": request.limit,
                "seed": request.seed,
                **asdict(request.rules),
                **asdict(request.addresses),
            }
            write_json(out / MANIFEST, manifest, indent=1)
            results.append(result)
        if not results:
            raise DatasetError(
                f"no image with a mask of {', '.join(mids)} that these options accept in {', '.join(request.splits)}"
            )
    except TransferError:
        raise
    except OSError as error:
        raise DatasetError(f"cannot write {error.filename or out}: {error.strerror or error}") from error
    return tuple(results)


def _find_classes(request: Request, cache: Path, transfer: Transfer, report: Progress) -> dict[str, str]:
    mids = _from_table(
        request.addresses.class_names, cache, transfer, report, lambda path: find_classes(path, request.classes)
    )
    try:
        with_masks = set(transfer.fetch(request.addresses.segmentable_classes).decode("utf-8", "replace").split())
    except TransferError as error:
        report.note(f"not checked whether these classes have masks: {error}")
        return mids
    if without := [name for name, mid in mids.items() if mid not in with_masks]:
        raise DatasetError(f"Open Images has no masks of {', '.join(without)}, only boxes")
    return mids


def _from_table(url: str, cache: Path, transfer: Transfer, report: Progress, read: Callable[[Path], Rows]) -> Rows:
    """What `read` finds in a table, which is downloaded unless it is there, and once more if it is damaged."""
    path = cache / file_name(url)
    if path.is_file():
        try:
            return read(path)
        except TableError as error:
            report.note(f"{error}; it is downloaded again")
            path.unlink()
    transfer.download(url, path, report)
    try:
        return read(path)
    except TableError as error:
        path.unlink()
        raise TableError(f"{error} ({url})") from None


def _fetch_split(
    request: Request,
    split: str,
    mids: dict[str, str],
    manifest: dict[str, Any],
    work: Path,
    cache: Path,
    transfer: Transfer,
    report: Progress,
) -> tuple[SplitResult, dict[str, Any]] | None:
    """What came of a split and its part of the manifest, or None where there is nothing to have."""
    addresses, labels = request.addresses, tuple(mids.values())
    masks, masks_scan = _from_table(
        addresses.masks(split), cache, transfer, report, lambda path: read_masks(path, labels, report)
    )
    boxes, boxes_scan = _from_table(
        addresses.boxes(split), cache, transfer, report, lambda path: read_boxes(path, labels, report)
    )
    report.note(f"{split}: {len(boxes)} boxes among {boxes_scan}")
    report.note(f"{split}: {len(masks)} masks among {masks_scan}")
    plan = make_plan(boxes, masks, request.rules)
    images = _chosen(plan, request)
    if not images:
        why = f"the {split} split has no image with a mask of {', '.join(mids)} that these options accept"
        if SPLITS[split] in manifest["splits"]:
            raise DatasetError(f"{why}, but {request.out / SPLITS[split]} was made with others: name another folder")
        report.note(f"{why}; it is left out")
        return None

    folder = request.out / SPLITS[split] / "images"
    pictures, failures = _photos(request, split, images, mids, manifest, folder, work, transfer, report)
    names = [region.mask.file_name for image in images if image in pictures for region in images[image] if region.mask]
    mask_folder = work / "masks" / split
    mask_failures = fetch_masks(transfer, addresses, split, names, mask_folder, request.jobs, report)

    records: dict[str, list[dict[str, Any]]] = {}
    with report.stage(f"{split} annotations", len(pictures), "images") as advance:
        for image_id in sorted(pictures):
            regions = images[image_id]
            lacking = [r.mask.file_name for r in regions if r.mask and r.mask.file_name in mask_failures]
            try:
                if lacking:
                    raise DatasetError(mask_failures[lacking[0]])
                records[image_id] = annotate(regions, pictures[image_id], mask_folder, request.rules, plan.counts)
            except DatasetError as error:
                failures[image_id] = str(error)
            advance(1)
    content = _coco(records, pictures, mids, split)
    if not content["images"]:
        first = next(iter(failures.items()))
        raise DatasetError(f"none of the {len(images)} {split} images could be had; {first[0]}: {first[1]}")
    write_json(folder.parent / "annotations.json", content, indent=None)
    entry = _entry(records, pictures, failures, plan, boxes_scan, masks_scan)
    crowds = sum(annotation["iscrowd"] for annotation in content["annotations"])
    instances = len(content["annotations"]) - crowds
    return SplitResult(SPLITS[split], len(records), instances, crowds, failures, plan.counts), entry


def _same_classes(manifest: dict[str, Any], mids: dict[str, str], request: Request) -> None:
    """Raises DatasetError if splits that this run leaves alone were made for other classes."""
    before = manifest["request"].get("classes", mids)
    others = manifest["splits"].keys() - {SPLITS[name] for name in request.splits}
    if others and list(before.items()) != list(mids.items()):
        raise DatasetError(
            f"{request.out} has {', '.join(before)} in {', '.join(sorted(others))}: ask for these classes, for all "
            "splits, or for another folder"
        )


def _chosen(plan: Plan, request: Request) -> dict[str, list[Region]]:
    ids = sorted(plan.images, key=lambda image_id: hashlib.sha256(f"{request.seed}:{image_id}".encode()).digest())
    return {image_id: plan.images[image_id] for image_id in sorted(ids[: request.limit])}


def _photos(
    request: Request,
    split: str,
    images: dict[str, list[Region]],
    mids: dict[str, str],
    manifest: dict[str, Any],
    folder: Path,
    work: Path,
    transfer: Transfer,
    report: Progress,
) -> tuple[dict[str, PhotoInfo], dict[str, str]]:
    """The photos that are there in the end, and why for those that are not."""
    known = {entry["id"]: entry["sha256"] for entry in manifest["splits"].get(SPLITS[split], {}).get("images", [])}
    pictures, damaged = examine_photos(transfer, images, folder, request.jobs, report)
    for image_id, picture in list(pictures.items()):
        if known.get(image_id, picture.sha256) != picture.sha256:
            damaged[image_id] = f"{image_id}.jpg is not the file that the manifest tells of"
            del pictures[image_id]
    for image_id, why in damaged.items():
        report.note(f"{why}; it is downloaded again")
        (folder / f"{image_id}.jpg").unlink()

    missing = [image_id for image_id in images if image_id not in pictures]
    if missing and request.oidv6:
        scratch = work / "oidv6"
        names = {mid: name for name, mid in mids.items()}
        classes = {image_id: names[images[image_id][0].label] for image_id in missing}
        said = fetch_with_oidv6(
            request.oidv6, request.addresses, split, classes, mids, folder, scratch, report, request.oidv6_stall
        )
        if said:
            report.note(f"{said}; trying https")
        missing = [image_id for image_id in missing if not (folder / f"{image_id}.jpg").is_file()]
        if not missing:
            with contextlib.suppress(OSError):
                shutil.rmtree(scratch)
    failures = (
        fetch_photos(transfer, request.addresses, split, missing, folder, request.jobs, report) if missing else {}
    )
    fresh, _ = examine_photos(
        transfer, [i for i in images if i not in pictures and i not in failures], folder, request.jobs, report
    )
    return pictures | fresh, failures


def _coco(
    records: dict[str, list[dict[str, Any]]], pictures: dict[str, PhotoInfo], mids: dict[str, str], split: str
) -> dict[str, Any]:
    category_ids = {mid: number for number, mid in enumerate(mids.values(), start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, regions in records.items():
        picture = pictures[image_id]
        number = len(images) + 1
        size = {"width": picture.width, "height": picture.height}
        images.append({"id": number, "file_name": f"{image_id}.jpg", **size, "license": 1})
        for region in regions:
            label = region.pop("label")
            ids = {"id": len(annotations) + 1, "image_id": number, "category_id": category_ids[label]}
            annotations.append({**ids, **region})
    return {
        "info": {"description": f"Open Images V6 {split}, annotations CC BY 4.0 by Google", "version": "6"},
        "licenses": [{"id": 1, "name": "CC BY 2.0", "url": "https://creativecommons.org/licenses/by/2.0/"}],
        "categories": [{"id": category_ids[mid], "name": name} for name, mid in mids.items()],
        "images": images,
        "annotations": annotations,
    }


def _entry(
    records: dict[str, list[dict[str, Any]]],
    pictures: dict[str, PhotoInfo],
    failures: dict[str, str],
    plan: Plan,
    boxes: Scan,
    masks: Scan,
) -> dict[str, Any]:
    return {
        "images": [
            {
                "id": image_id,
                "sha256": pictures[image_id].sha256,
                "width": pictures[image_id].width,
                "height": pictures[image_id].height,
                "annotations": len(regions),
            }
            for image_id, regions in records.items()
        ],
        "failures": failures,
        "counts": {name: count for name, count in sorted(plan.counts.items()) if count},
        "rows read": {"boxes": boxes.rows, "masks": masks.rows},
    }


def _read_manifest(out: Path) -> dict[str, Any]:
    path = out / MANIFEST
    if not path.is_file():
        if any((out / split / "annotations.json").exists() for split in SPLITS.values()):
            raise DatasetError(f"{out} holds a data set that was not made by this command: name another folder")
        return {"format": _FORMAT, "request": {}, "splits": {}}
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != _FORMAT or not isinstance(manifest["splits"], dict):
            raise ValueError(f"its format is {manifest['format']}")
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path} cannot be used: {error}; remove it to start over") from None
    return manifest
