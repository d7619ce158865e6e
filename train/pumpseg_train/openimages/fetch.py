"""From class names to a data set, one split after the other, resumable at every step."""

import contextlib
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pumpseg.atomic_file import write_json
from pumpseg.errors import DatasetError
from pumpseg.redaction import redacted
from pumpseg_train.dataset.annotations import ANNOTATIONS, SplitWriter
from pumpseg_train.dataset.photo_file import PhotoInfo
from pumpseg_train.openimages.addresses import SPLITS, Addresses, file_name
from pumpseg_train.openimages.archives import fetch_masks
from pumpseg_train.openimages.join import Region, Rules, annotate, make_plan
from pumpseg_train.openimages.oidv6 import Oidv6, fetch_with_oidv6
from pumpseg_train.openimages.photos import fetch_photos, probe_photos
from pumpseg_train.openimages.tables import TableError, find_classes, read_boxes, read_masks
from pumpseg_train.openimages.transfer import Transfer, TransferError

Rows = TypeVar("Rows")
_Records = dict[str, list[dict[str, Any]]]  # COCO annotations by image id; "label" is the MID

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
    rules: Rules = field(default_factory=Rules)
    addresses: Addresses = field(default_factory=Addresses)
    oidv6: Oidv6 | None = None
    cache: Path | None = None


@dataclass(frozen=True)
class SplitResult:
    """What a split has now. failures: the reason for every image that is not in the data set because of one."""

    split: str
    images: int
    instances: int
    crowds: int
    failures: dict[str, str]
    counts: Counter[str]


def fetch_open_images(request: Request, transfer: Transfer) -> tuple[SplitResult, ...]:
    """Makes or completes the data set `request.out`.

    Every split's annotations.json is replaced as a whole, and lists only images that exist and decode, with all their
    masks; a split without any is left out. manifest.json has the source of everything, its SHA-256, and what is
    missing.
    Raises DatasetError, TransferError where no data set can be made.
    """
    try:
        return _Download(request, transfer).run()
    except TransferError:
        raise
    except OSError as error:
        raise DatasetError(f"cannot write {error.filename or request.out}: {error.strerror or error}") from error


class _Download:
    """One download: what is wanted, what does the work, and what an earlier run left."""

    def __init__(self, request: Request, transfer: Transfer) -> None:
        self.request, self.transfer, self.report = request, transfer, transfer.report
        self.manifest = _read_manifest(request.out)
        self.work = request.out / WORK
        self.work.mkdir(parents=True, exist_ok=True)
        self.mids = self._find_classes()
        self._check_classes()

    def run(self) -> tuple[SplitResult, ...]:
        request, results = self.request, []
        for split in request.splits:
            result = self._split(split)
            if result is None:
                continue
            self.manifest["request"] = {
                "classes": self.mids,
                "limit": request.limit,
                "seed": request.seed,
                **asdict(request.rules),
                **{name: redacted(url) for name, url in asdict(request.addresses).items()},
            }
            write_json(request.out / MANIFEST, self.manifest, indent=1)
            results.append(result)
        if not results:
            raise DatasetError(f"no image with {self._wanted} in {', '.join(request.splits)}")
        return tuple(results)

    @property
    def _wanted(self) -> str:
        return f"a mask of {', '.join(self.mids)} that these options accept"

    def _find_classes(self) -> dict[str, str]:
        addresses = self.request.addresses
        mids = self._table(addresses.class_names, lambda path: find_classes(path, self.request.classes))
        try:
            with_masks = set(self.transfer.fetch(addresses.segmentable_classes).decode("utf-8", "replace").split())
        except TransferError as error:
            self.report.note(f"not checked whether these classes have masks: {error}")
            return mids
        if without := [name for name, mid in mids.items() if mid not in with_masks]:
            raise DatasetError(f"Open Images has no masks of {', '.join(without)}, only boxes")
        return mids

    def _check_classes(self) -> None:
        """Raises DatasetError if splits that this run leaves alone were made for other classes."""
        before = self.manifest["request"].get("classes", self.mids)
        others = self.manifest["splits"].keys() - {SPLITS[name] for name in self.request.splits}
        if others and list(before.items()) != list(self.mids.items()):
            raise DatasetError(
                f"{self.request.out} has {', '.join(before)} in {', '.join(sorted(others))}: request these classes, "
                "or all splits, or another folder"
            )

    def _table(self, url: str, read: Callable[[Path], Rows]) -> Rows:
        """What `read` returns for a table, which is downloaded unless it exists, and once more if it is damaged."""
        path = (self.request.cache or self.work) / file_name(url)
        if path.is_file():
            try:
                return read(path)
            except TableError as error:
                self.report.note(f"{error}; it is downloaded again")
                path.unlink()
        self.transfer.download(url, path)
        try:
            return read(path)
        except TableError as error:
            path.unlink()
            raise TableError(f"{error} ({redacted(url)})") from None

    def _split(self, split: str) -> SplitResult | None:
        """Downloads a split, writes its annotations and enters it in the manifest; None if nothing is wanted of it."""
        addresses, labels = self.request.addresses, tuple(self.mids.values())
        masks, masks_scan = self._table(addresses.masks(split), lambda path: read_masks(path, labels, self.report))
        boxes, boxes_scan = self._table(addresses.boxes(split), lambda path: read_boxes(path, labels, self.report))
        self.report.note(f"{split}: {len(boxes)} boxes among {boxes_scan}")
        self.report.note(f"{split}: {len(masks)} masks among {masks_scan}")
        plan = make_plan(boxes, masks, self.request.rules)
        images = self._choose(plan.images)
        ours = SPLITS[split]
        if not images:
            why = f"the {split} split has no image with {self._wanted}"
            if ours in self.manifest["splits"]:
                raise DatasetError(f"{why}, but {self.request.out / ours} was made with others: name another folder")
            self.report.note(f"{why}; it is left out")
            return None

        infos, failures = self._photos(split, images)
        names = [region.mask.file_name for image in images if image in infos for region in images[image] if region.mask]
        mask_folder = self.work / "masks" / split
        mask_failures = fetch_masks(
            self.transfer, f"{split} masks", lambda first: addresses.archive(split, first), names, mask_folder
        )
        records: _Records = {}
        with self.report.stage(f"{split} annotations", len(infos), "images") as advance:
            for image_id in sorted(infos):
                regions = images[image_id]
                missing = [r.mask.file_name for r in regions if r.mask and r.mask.file_name in mask_failures]
                try:
                    if missing:
                        raise DatasetError(mask_failures[missing[0]])
                    rules = self.request.rules
                    records[image_id] = annotate(regions, infos[image_id], mask_folder, rules, plan.counts)
                except DatasetError as error:
                    failures[image_id] = str(error)
                advance(1)
        if not records:
            first = next(iter(failures.items()))
            raise DatasetError(f"all of the {len(images)} {split} images failed; {first[0]}: {first[1]}")
        self._write(split, records, infos)
        self.manifest["splits"][ours] = {
            "images": [_entry(image_id, infos[image_id], len(regions)) for image_id, regions in records.items()],
            "failures": failures,
            "counts": {name: count for name, count in sorted(plan.counts.items()) if count},
            "rows read": {"boxes": boxes_scan.rows, "masks": masks_scan.rows},
        }
        crowds = [region["iscrowd"] for regions in records.values() for region in regions]
        return SplitResult(ours, len(records), crowds.count(0), crowds.count(1), failures, plan.counts)

    def _choose(self, images: Mapping[str, list[Region]]) -> dict[str, list[Region]]:
        seed = self.request.seed
        ids = sorted(images, key=lambda image_id: hashlib.sha256(f"{seed}:{image_id}".encode()).digest())
        return {image_id: images[image_id] for image_id in sorted(ids[: self.request.limit])}

    def _photos(self, split: str, images: Mapping[str, list[Region]]) -> tuple[dict[str, PhotoInfo], dict[str, str]]:
        """The photos that exist in the end, and the reasons for those that do not."""
        folder = self.request.out / SPLITS[split] / "images"
        entries = self.manifest["splits"].get(SPLITS[split], {}).get("images", [])
        known = {entry["id"]: entry["sha256"] for entry in entries}
        infos, damaged = probe_photos(self.transfer, images, folder)
        for image_id, info in list(infos.items()):
            if known.get(image_id, info.sha256) != info.sha256:
                damaged[image_id] = f"{image_id}.jpg is not the file that the manifest lists"
                del infos[image_id]
        for image_id, why in damaged.items():
            self.report.note(f"{why}; it is downloaded again")
            (folder / f"{image_id}.jpg").unlink()

        missing = [image_id for image_id in images if image_id not in infos]
        if missing and self.request.oidv6:
            missing = self._photos_by_oidv6(self.request.oidv6, split, images, missing, folder)
        urls = {image_id: self.request.addresses.image(split, image_id) for image_id in missing}
        failures = fetch_photos(self.transfer, f"{split} images", urls, folder) if urls else {}
        fresh, _ = probe_photos(self.transfer, [i for i in images if i not in infos and i not in failures], folder)
        return infos | fresh, failures

    def _photos_by_oidv6(
        self, tool: Oidv6, split: str, images: Mapping[str, list[Region]], missing: list[str], folder: Path
    ) -> list[str]:
        """Those of the missing photos that are still missing after it."""
        scratch = self.work / "oidv6"
        names = {mid: name for name, mid in self.mids.items()}
        classes = {image_id: names[images[image_id][0].label] for image_id in missing}
        problem = fetch_with_oidv6(
            tool, self.request.addresses, split, classes, self.mids, folder, scratch, self.report
        )
        if problem:
            self.report.note(f"{problem}; trying https")
        missing = [image_id for image_id in missing if not (folder / f"{image_id}.jpg").is_file()]
        if not missing:
            with contextlib.suppress(OSError):
                shutil.rmtree(scratch)
        return missing

    def _write(self, split: str, records: _Records, infos: Mapping[str, PhotoInfo]) -> None:
        category_ids = {mid: number for number, mid in enumerate(self.mids.values(), start=1)}
        about = {
            "info": {"description": f"Open Images V6 {split}, annotations CC BY 4.0 by Google", "version": "6"},
            "licenses": [{"id": 1, "name": "CC BY 2.0", "url": "https://creativecommons.org/licenses/by/2.0/"}],
        }
        categories = [{"id": category_ids[mid], "name": name} for name, mid in self.mids.items()]
        writer = SplitWriter(self.request.out / SPLITS[split], categories, about)
        for image_id, regions in records.items():
            info = infos[image_id]
            image = {"file_name": f"{image_id}.jpg", "width": info.width, "height": info.height, "license": 1}
            writer.add(image, ({"category_id": category_ids[r["label"]], **_without_label(r)} for r in regions))
        writer.write()


def _without_label(region: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in region.items() if key != "label"}


def _entry(image_id: str, info: PhotoInfo, annotations: int) -> dict[str, Any]:
    size = {"width": info.width, "height": info.height}
    return {"id": image_id, "sha256": info.sha256, **size, "annotations": annotations}


def _read_manifest(out: Path) -> dict[str, Any]:
    path = out / MANIFEST
    if not path.is_file():
        if any((out / split / ANNOTATIONS).exists() for split in SPLITS.values()):
            raise DatasetError(f"{out} holds a data set that was not made by this command: name another folder")
        return {"format": _FORMAT, "request": {}, "splits": {}}
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != _FORMAT or not isinstance(manifest["splits"], dict):
            raise ValueError(f"its format is {manifest['format']}")
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path} cannot be used: {error}; remove it to start over") from None
    return manifest
