"""The streamed tables: the same rows as a plain reader finds, in little memory."""

import csv
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pumpseg_train.openimages import tables
from pumpseg_train.openimages.tables import TableError, read_boxes, read_masks
from pumpseg_train.progress import Progress

COLUMNS = ["ImageID", "Source", "LabelName", "XMin", "XMax", "YMin", "YMax", "IsGroupOf", "IsDepiction"]
LABELS = ["/m/05zsy", "/m/05zsyy", "/m/0", "/m/014j1m"]
ROWS, EVERY = 5_000_000, 100_000

row = st.fixed_dictionaries(
    {
        "ImageID": st.from_regex(r"[0-9a-f]{4}", fullmatch=True),
        "Source": st.sampled_from(["xclick", "/m/05zsy", ""]),
        "LabelName": st.sampled_from(LABELS),
        **{edge: st.floats(0, 1).map(str) for edge in ("XMin", "XMax", "YMin", "YMax")},
        "IsGroupOf": st.sampled_from(["0", "1", "-1"]),
        "IsDepiction": st.sampled_from(["0", "1", "-1"]),
    }
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(row, min_size=1, max_size=30),
    st.permutations(COLUMNS),
    st.sets(st.sampled_from(LABELS), min_size=1),
    st.integers(1, 400),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_the_rows_are_those_that_a_plain_reader_finds(tmp_path_factory, rows, columns, labels, block, ending, ended):
    path = tmp_path_factory.mktemp("tables") / "boxes.csv"
    lines = [",".join(columns), *(",".join(entry[name] for name in columns) for entry in rows)]
    path.write_bytes((ending.join(lines) + (ending if ended else "")).encode())
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(tables, "BLOCK", block)
        found, scan = read_boxes(path, sorted(labels), Progress())
    with path.open(newline="") as file:
        wanted = [entry for entry in csv.DictReader(file) if entry["LabelName"] in labels]
    assert scan.rows == len(rows)
    assert [(box.image_id, box.label) for box in found] == [(entry["ImageID"], entry["LabelName"]) for entry in wanted]
    edges = ("XMin", "YMin", "XMax", "YMax")
    assert [box.box for box in found] == [tuple(float(entry[edge]) for edge in edges) for entry in wanted]
    assert [box.group for box in found] == [entry["IsGroupOf"] == "1" for entry in wanted]
    assert [box.depiction for box in found] == [entry["IsDepiction"] == "1" for entry in wanted]


@pytest.mark.parametrize("edges", ["0.1,x,0.1,0.2", "0.1,,0.1,0.2", "nan,0,0.1,0.2", "0.1,1e400,0,1"])
def test_a_box_that_is_no_numbers_is_named(tmp_path, edges):
    path = tmp_path / "boxes.csv"
    path.write_text(",".join(COLUMNS) + f"\nabcd,s,/m/0,{edges},0,0\n")
    with pytest.raises(TableError, match=r"boxes\.csv: abcd has the box"):
        read_boxes(path, ["/m/0"], Progress())


def test_a_mask_with_a_bad_iou_is_named(tmp_path):
    path = tmp_path / "masks.csv"
    header = "MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax,PredictedIoU,Clicks"
    path.write_text(f"{header}\na.png,a,/m/0,1,0,1,0,1,high,\n")
    with pytest.raises(TableError, match=r"the mask a\.png has the PredictedIoU 'high'"):
        read_masks(path, ["/m/0"], Progress())


def test_a_table_without_lines_is_not_kept_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MAX_ROW", 1000)
    monkeypatch.setattr(tables, "BLOCK", 100)
    path = tmp_path / "boxes.csv"
    path.write_text(",".join(COLUMNS) + "\n" + "x" * 5000)
    with pytest.raises(TableError, match=r"boxes\.csv is no table: a row has more than"):
        read_boxes(path, ["/m/0"], Progress())


# The peak of this very program: ru_maxrss would begin with that of the test runner, which started it.
SCAN = """
import re, sys
from pathlib import Path
from pumpseg_train.openimages.tables import read_boxes
from pumpseg_train.progress import Progress
found, scan = read_boxes(Path(sys.argv[1]), ["/m/05zsy"], Progress())
peak = int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
print(len(found), scan.rows, peak // 1024, scan)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_five_million_rows_in_under_500_megabytes(tmp_path, capsys):
    path = tmp_path / "boxes.csv"
    columns = [*COLUMNS[:3], "Confidence", *COLUMNS[3:7], "IsOccluded", "IsTruncated", *COLUMNS[7:], "IsInside"]
    columns += [f"XClick{number}{axis}" for number in range(1, 5) for axis in "XY"]
    tail = "1,0.012500,0.195312,0.148438,0.587500,0,1,0,0,0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8"
    common = "".join(f"{number:016x},xclick,/m/0{number % 600:04x},{tail}\n" for number in range(EVERY - 1))
    with path.open("w") as file:
        file.write(",".join(columns) + "\n")
        for _ in range(ROWS // EVERY):
            file.write(common + f"00ff00ff00ff00ff,xclick,/m/05zsy,{tail}\n")
    done = subprocess.run([sys.executable, "-c", SCAN, str(path)], capture_output=True, text=True, check=True)
    path.unlink()
    found, rows, megabytes, *said = done.stdout.split()
    with capsys.disabled():
        print(f"\n[{' '.join(said)}, {megabytes} MB]")
    assert (int(found), int(rows)) == (ROWS // EVERY, ROWS)
    assert int(megabytes) < 500
