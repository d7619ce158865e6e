"""The json files of a data set as they are, faults and all."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pumpseg.errors import DatasetError

SPLITS = ("train", "val", "test")
ANNOTATIONS = "annotations.json"
_KINDS: dict[str, dict[str, Any]] = {
    "categories": {"id": int, "name": str},
    "images": {"id": int, "file_name": str, "width": int | float, "height": int | float},
    "annotations": {"id": int, "image_id": int, "category_id": int},
}


@dataclass(frozen=True, eq=False)
class SplitFile:
    """One annotations.json.

    name: of the split, or that of the folder where the set has no splits. about: what else the json says of the set as
    a whole, such as its info and licenses.
    """

    name: str
    folder: Path
    categories: list[dict[str, Any]]
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    about: dict[str, Any]

    @property
    def json_path(self) -> Path:
        return self.folder / ANNOTATIONS

    @property
    def paths(self) -> Iterator[Path]:
        """Every file that this split is made of."""
        yield self.json_path
        yield from map(self.path, self.images)

    def path(self, image: dict[str, Any]) -> Path:
        return self.folder / "images" / image["file_name"]


def read_files(root: Path) -> list[SplitFile]:
    """The splits below `root`, or `root` itself where it holds the annotations.

    Raises:
        DatasetError: there is none, or a file is not COCO json at all.
    """
    folders = {name: root / name for name in SPLITS if (root / name / ANNOTATIONS).is_file()}
    if not folders and (root / ANNOTATIONS).is_file():
        folders = {root.resolve().name: root}
    if not folders:
        raise DatasetError(
            f"{root} holds no data set: looked for {ANNOTATIONS} in it and in its folders {', '.join(SPLITS)}"
        )
    return [_read(name, folder) for name, folder in folders.items()]


def _read(name: str, folder: Path) -> SplitFile:
    path = folder / ANNOTATIONS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        lists: dict[str, list[dict[str, Any]]] = {}
        for key, kinds in _KINDS.items():
            for number, item in enumerate(content[key]):
                for field, kind in kinds.items():
                    if not isinstance(item[field], kind):
                        raise TypeError(f"{key}[{number}] has the {field} {item[field]!r}")
            lists[key] = content[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path} is not COCO json: {type(error).__name__} {error}") from error
    about = {key: value for key, value in content.items() if key not in _KINDS}
    return SplitFile(name, folder, **lists, about=about)
