"""The CSV tables of Open Images, streamed: only the rows of the wanted classes are ever parsed.

Column orders differ between splits and versions, so columns are found by their names.
"""

import csv
import difflib
import math
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pumpseg.errors import DatasetError
from pumpseg_train.progress import Progress

BLOCK = 1 << 22
MAX_ROW = 1 << 24  # bytes


class TableError(DatasetError):
    """A CSV file that is cut short or has other columns."""


@dataclass(frozen=True, slots=True)
class BoxRow:
    """A box, xyxy as shares of the picture's sides."""

    image_id: str
    label: str  # MID
    box: tuple[float, float, float, float]
    group: bool
    depiction: bool


@dataclass(frozen=True, slots=True)
class MaskRow:
    """A mask's file name and the box that it was drawn for, xyxy as shares of the picture's sides."""

    file_name: str
    image_id: str
    label: str  # MID
    box_id: str
    box: tuple[float, float, float, float]
    predicted_iou: float | None


@dataclass(frozen=True)
class Scan:
    """How much was read."""

    rows: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.rows:,} rows in {self.seconds:.1f} s, {self.rows / max(self.seconds, 1e-9):,.0f} rows a second"


def find_classes(path: Path, names: Sequence[str]) -> dict[str, str]:
    """MID of every class name, in the order asked for; names are taken in any case, with _ for blanks.

    Keys are in lower case, as oidv6 writes them.
    Raises TableError, or DatasetError for a name that Open Images does not have.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            known = {row[1].strip().lower(): row[0] for row in csv.reader(file) if row}
    except (IndexError, UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path.name} is cut short or no table of class names: {error}") from None
    found = {}
    for name in names:
        key = " ".join(name.replace("_", " ").lower().split())
        if key not in known:
            near = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
            hint = f"; similar: {', '.join(repr(match) for match in near)}" if near else ""
            raise DatasetError(f"Open Images has no boxable class {name!r} among its {len(known)}{hint}")
        found[key] = known[key]
    return found


def read_boxes(path: Path, labels: Sequence[str], report: Progress) -> tuple[list[BoxRow], Scan]:
    """The boxes of these MIDs. Raises TableError."""
    columns = ("ImageID", "LabelName", "XMin", "YMin", "XMax", "YMax", "IsGroupOf", "IsDepiction")
    table = _Table(path, labels, columns, report)
    rows = [
        BoxRow(_plain(path, image), label, _box(path, image, edges), group == "1", depiction == "1")
        for image, label, *edges, group, depiction in table
    ]
    return rows, table.scan


def read_masks(path: Path, labels: Sequence[str], report: Progress) -> tuple[list[MaskRow], Scan]:
    """The masks of these MIDs. Raises TableError."""
    columns = ("MaskPath", "ImageID", "LabelName", "BoxID", "BoxXMin", "BoxYMin", "BoxXMax", "BoxYMax", "PredictedIoU")
    table = _Table(path, labels, columns, report)
    rows = []
    for name, image, label, box_id, *edges, iou in table:
        try:
            predicted = float(iou) if iou else None
        except ValueError:
            raise TableError(f"{path.name}: the mask {name} has the PredictedIoU {iou!r}") from None
        names = _plain(path, name), _plain(path, image)
        rows.append(MaskRow(*names, label, box_id, _box(path, name, edges), predicted))
    return rows, table.scan


def _plain(path: Path, name: str) -> str:
    """The name, which will be that of a file: a mirror must not choose the folder."""
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise TableError(f"{path.name}: {name!r} cannot be the name of an image or a mask")
    return name


def _box(path: Path, what: str, edges: Sequence[str]) -> tuple[float, float, float, float]:
    try:
        x1, y1, x2, y2 = (float(edge) for edge in edges)
        if not all(map(math.isfinite, (x1, y1, x2, y2))):
            raise ValueError
    except ValueError:
        raise TableError(f"{path.name}: {what} has the box {edges}, which is not four numbers") from None
    return x1, y1, x2, y2


class _Table:
    """Iterates over the wanted columns of the rows that have one of `labels` as LabelName.

    The file is read in blocks of bytes and searched for the labels; a row becomes text only where one occurs.
    `scan` has the figures afterwards.
    """

    def __init__(self, path: Path, labels: Sequence[str], columns: Sequence[str], report: Progress) -> None:
        self._path, self._columns, self._report = path, columns, report
        self._labels = frozenset(labels)
        self._searched = [label.encode() for label in labels]
        self.scan = Scan(0, 0.0)

    def __iter__(self) -> Iterator[list[str]]:
        path, started, rows = self._path, time.perf_counter(), 0
        with (
            path.open("rb") as file,
            self._report.stage(f"reading {path.name}", path.stat().st_size, "B") as advance,
        ):
            header = file.readline(MAX_ROW).decode("utf-8", "replace").rstrip("\r\n").split(",")
            if missing := [name for name in self._columns if name not in header]:
                raise TableError(f"{path.name} has no column {missing[0]}: it begins with {','.join(header)!r:.120}")
            places = [header.index(name) for name in self._columns]
            label_place = header.index("LabelName")
            last, rest = b"", b""
            while block := file.read(BLOCK):
                advance(len(block))
                block = rest + block
                end = block.rfind(b"\n") + 1
                rest = block[end:]
                if len(rest) > MAX_ROW:
                    raise TableError(f"{path.name} is no table: a row has more than {MAX_ROW >> 20} MiB")
                rows += block.count(b"\n", 0, end)
                yield from self._matches(block[:end], len(header), places, label_place)
                last = block[block.rfind(b"\n", 0, max(end - 1, 0)) + 1 : end] or last
            if rest:
                rows += 1
                last = rest
                yield from self._matches(rest, len(header), places, label_place)
            fields = last.count(b",") + 1
            if last and fields != len(header):
                raise TableError(f"{path.name} is cut short: its last row has {fields} of {len(header)} columns")
        if not rows:
            raise TableError(f"{path.name} is cut short: it has a header and no rows")
        self.scan = Scan(rows, time.perf_counter() - started)

    def _matches(self, block: bytes, width: int, places: list[int], label_place: int) -> Iterator[list[str]]:
        # Plain searches, one a label, are many times quicker than one regular expression for all.
        starts = set()
        for label in self._searched:
            position = block.find(label)
            while position >= 0:
                starts.add(block.rfind(b"\n", 0, position) + 1)
                position = block.find(label, position + 1)
        for start in sorted(starts):
            end = block.find(b"\n", start)
            fields = block[start : end if end >= 0 else None].decode("utf-8", "replace").rstrip("\r").split(",")
            if len(fields) != width:
                raise TableError(
                    f"{self._path.name} is cut short or damaged: a row has {len(fields)} of {width} columns: "
                    f"{','.join(fields)!r:.80}"
                )
            if fields[label_place] in self._labels:
                yield [fields[place] for place in places]
