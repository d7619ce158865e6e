"""labelme's json files."""

import base64
import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pumpseg.errors import DatasetError
from pumpseg_train.cli.data import main
from pumpseg_train.convert.labelme import read

BOX = [[10, 5], [20, 5], [20, 25], [10, 25]]


def shape(points, kind="polygon", label="a", **more):
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}, **more}


def tiny_png(side):
    """A PNG in base64 whose header claims side x side pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", len(header) - 4) + header + struct.pack(">I", zlib.crc32(header))
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IDAT").decode()


def test_labelme_shapes(tmp_path, labelme):
    buffer = io.BytesIO()
    Image.fromarray(np.array([[255, 0], [0, 255]], np.uint8)).save(buffer, "PNG")
    mask = base64.b64encode(buffer.getvalue()).decode()
    shapes = [
        shape(BOX),
        shape([[1, 2], [11, 6]], "rectangle"),
        shape([[25, 20], [25, 30]], "circle"),
        shape([[3, 4], [4, 5]], "mask", mask=mask),
        shape(BOX, group_id=7),
        shape([[30, 5], [40, 5], [40, 25], [30, 25]], group_id=7),
        shape([[3, 4], [4, 5]], "mask", mask=mask, group_id=8),
        shape(BOX, group_id=8),
    ]
    labelme(tmp_path, shapes)
    labels = read(tmp_path, "train", ()).splits["train"][0].annotations
    areas = [int(label.mask(50, 40).sum()) for label in labels]
    assert areas == [200, 40, pytest.approx(np.pi * 100, rel=0.02), 2, 400, 202]
    assert sorted(map(tuple, np.argwhere(labels[3].mask(50, 40)))) == [(4, 3), (5, 4)]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([{"label": "a"}], "KeyError"),
        ([shape([[1, 1]], "point")], r"none of the labels has a mask: shapes .*: 1 \(1 point\)"),
        ([shape([[*BOX[0]]] * 8, "cuboid")], r"\(1 cuboid\)"),
        ([shape([[0, 0], [99_999, 99_999]], "mask", mask=tiny_png(100_000))], "DecompressionBombError"),
        ([shape([[1, 1], [2, 2]], "mask", mask="!!!")], "is not labelme json"),
        ([shape(BOX), shape(BOX, label=None)], r"a\.json is not labelme json: TypeError label None is not text"),
        ([shape([[1, 1], [2, float("nan")], [3, 3]])], r"a\.json .*a coordinate is nan"),
        ([shape([[1, 1], [2, float("inf")]], "rectangle")], r"a\.json .*a coordinate is inf"),
        ([shape([[1, 1], [float("inf"), 2]], "circle")], r"a\.json .*a coordinate is"),
        ([shape([[1, 1], [float("inf"), 2]], "mask", mask="")], r"a\.json is not labelme json"),
        ([shape([[1, 1, 1], [2, 2, 1], [1, 2, 1]])], r"a\.json is not labelme json"),
    ],
)
def test_labelme_that_makes_no_sense_is_named(tmp_path, shapes, message, labelme):
    labelme(tmp_path, shapes)
    with pytest.raises(DatasetError, match=message):
        read(tmp_path, "train", ())


def test_labelme_photos_without_json_are_told(tmp_path, photo, labelme):
    labelme(tmp_path, [shape(BOX)])
    photo(tmp_path, "b.jpg")
    labelled = read(tmp_path, "train", ())
    assert len(labelled.splits["train"]) == 1
    assert labelled.notes == ("images left out because they have no json: 1",)


def test_labels_of_stored_pixels_are_turned_with_the_photo(tmp_path, labelme):
    labelme(tmp_path, [shape(BOX)], orientation=6)
    (turned,) = read(tmp_path, "train", ()).splits["train"]
    assert (turned.width, turned.height) == (40, 50)
    stored = np.zeros((40, 50), bool)
    stored[5:25, 10:20] = True
    assert np.array_equal(turned.annotations[0].mask(40, 50), np.rot90(stored, -1))


def test_labels_of_another_size_are_refused(tmp_path, photo, labelme):
    labelme(tmp_path, [shape(BOX)])
    photo(tmp_path, "a.jpg", (41, 50))
    with pytest.raises(DatasetError, match=r"a\.jpg is 50x41, its labels are for 50x40"):
        read(tmp_path, "train", ())


def test_shapes_without_an_area_are_left_out_and_counted(tmp_path, labelme):
    kinds = [shape([[1, 1]], "point"), shape([[1, 1], [9, 9]], "line"), shape([[1, 1], [9, 9], [1, 9]], "linestrip")]
    labelme(tmp_path, [shape(BOX), *kinds, shape([[1, 1], [2, 2]]), shape([[1, 1]], "point", label="stem")])
    labelled = read(tmp_path, "train", ())
    assert labelled.classes == ("a",)
    kinds = "2 point, 1 line, 1 linestrip, 1 polygon"
    first = tmp_path / "a.json"
    assert labelled.notes == (f"shapes left out because they have no area: 5 ({kinds}), the first in {first}",)
    assert [int(annotation.mask(50, 40).sum()) for annotation in labelled.photos[0].annotations] == [200]


@pytest.mark.parametrize("kind", ["rectangle", "rotation", "oriented_rectangle"])
def test_rectangles_may_have_four_corners(tmp_path, labelme, kind):
    labelme(tmp_path, [shape(BOX, kind)])
    (only,) = read(tmp_path, "train", ()).photos[0].annotations
    assert only.mask(50, 40).sum() == 200


@pytest.mark.parametrize("size", [{}, {"imageWidth": None, "imageHeight": None}, {"imageWidth": 0, "imageHeight": 0}])
def test_files_of_old_versions_have_the_size_of_the_photo(tmp_path, photo, size):
    photo(tmp_path, "a.jpg", (40, 50))
    content = {"imagePath": "a.jpg", "shapes": [{"label": "a", "points": BOX}], **size}
    (tmp_path / "a.json").write_text(json.dumps(content))
    (only,) = read(tmp_path, "train", ()).photos
    assert (only.width, only.height) == (50, 40)
    assert only.annotations[0].mask(50, 40).sum() == 200


def test_a_photo_that_is_in_the_json_only_is_written_out(tmp_path, labelme, capsys):
    for name in ("train", "val"):
        labelme(tmp_path / "in" / name, [shape(BOX)])
        path = tmp_path / "in" / name / "a.json"
        content = json.loads(path.read_text())
        content["imageData"] = base64.b64encode((tmp_path / "in" / name / "a.jpg").read_bytes()).decode()
        path.write_text(json.dumps(content))
        (tmp_path / "in" / name / "a.jpg").rename(tmp_path / f"{name}.jpg")
    assert main(["convert", str(tmp_path / "in"), "--from", "labelme", "--out", str(tmp_path / "out")]) == 0
    for name in ("train", "val"):
        assert (tmp_path / "out" / name / "images" / "a.jpg").read_bytes() == (tmp_path / f"{name}.jpg").read_bytes()


def test_a_photo_that_is_nowhere_is_named(tmp_path, labelme):
    labelme(tmp_path, [shape(BOX)])
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(DatasetError, match=r"a\.json is about .*a\.jpg, which does not exist"):
        read(tmp_path, "train", (), tmp_path)


@pytest.mark.parametrize("name", ["C:\\work\\photos\\a.jpg", "../elsewhere/a.jpg"])
def test_a_photo_next_to_its_json_is_found(tmp_path, labelme, name):
    labelme(tmp_path / "in", [shape(BOX)])
    path = tmp_path / "in" / "a.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"imagePath": name}))
    assert read(tmp_path / "in", "train", ()).photos[0].path == tmp_path / "in" / "a.jpg"


def test_a_photo_in_the_folder_next_to_that_of_its_json_is_found(tmp_path, labelme, photo):
    labelme(tmp_path / "in" / "labels", [shape(BOX)])
    (tmp_path / "in" / "labels" / "a.jpg").rename(photo(tmp_path / "in" / "images", "a.jpg"))
    path = tmp_path / "in" / "labels" / "a.json"
    for name, message in (("..\\images\\a.jpg", ""), ("../../secret.jpg", "does not exist")):
        photo(tmp_path, "secret.jpg", (40, 50))
        path.write_text(json.dumps(json.loads(path.read_text()) | {"imagePath": name}))
        if message:
            with pytest.raises(DatasetError, match=message):
                read(path.parent, "train", ())
        else:
            assert read(path.parent, "train", ()).photos[0].path == tmp_path / "in" / "images" / "a.jpg"


def test_an_embedded_photo_gets_the_suffix_of_what_it_is(tmp_path, labelme):
    labelme(tmp_path / "in", [shape(BOX)])
    path, scratch = tmp_path / "in" / "a.json", tmp_path / "scratch"
    scratch.mkdir()
    buffer = io.BytesIO()
    Image.new("RGB", (50, 40)).save(buffer, "PNG")
    (path.parent / "a.jpg").unlink()
    for content, suffix in ((buffer.getvalue(), ".png"), (b"no image", None)):
        changed = {"imageData": base64.b64encode(content).decode()}
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))
        if suffix:
            assert read(path.parent, "train", (), scratch).photos[0].path.suffix == suffix
        else:
            with pytest.raises(DatasetError, match=r"a\.json .*its imageData is not an image"):
                read(path.parent, "train", (), scratch)
