"""VIA's json, versions 1 and 2."""

import os
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from pumpseg.errors import DatasetError
from pumpseg_train.cli.data import main
from pumpseg_train.convert.via import read


def square(**attributes):
    shape = {"name": "polygon", "all_points_x": [10, 20, 20, 10], "all_points_y": [5, 5, 25, 25]}
    return {"shape_attributes": shape, "region_attributes": attributes}


@pytest.mark.parametrize("wrap", [lambda entries: entries, lambda entries: {"_via_img_metadata": entries}])
@pytest.mark.parametrize("as_list", [True, False])
def test_via_of_both_versions(tmp_path, wrap, as_list, masks_of, via):
    regions = [square(), square()]
    via(tmp_path / "in" / "valid", regions if as_list else {"0": regions[0], "1": regions[1]}, "x.json", wrap)
    line = ["convert", str(tmp_path / "in"), "--from", "via", "--out", str(tmp_path / "out"), "--classes", "balloon"]
    assert main(line) == 0
    ((name, found),) = masks_of(tmp_path / "out").items()
    assert name == ("val", "a.png")
    assert [(n, c, m.sum()) for n, c, m in found] == [("balloon", False, 200)] * 2


def test_via_shapes_and_class_attributes(tmp_path, via):
    shapes = [
        {"name": "rect", "x": 2, "y": 3, "width": 10, "height": 4},
        {"name": "circle", "cx": 25, "cy": 20, "r": 10},
        {"name": "ellipse", "cx": 25, "cy": 20, "rx": 12, "ry": 6, "theta": 0.5},
    ]
    attributes = [{"name": "b", "colour": "red"}, {"label": {"a": True, "b": False}}, {"kind": "c", "note": ""}]
    regions = [{"shape_attributes": s, "region_attributes": a} for s, a in zip(shapes, attributes, strict=True)]
    via(tmp_path, regions)
    labelled = read(tmp_path, "train", ())
    assert labelled.classes == ("a", "b", "c")
    labels = labelled.splits["train"][0].annotations
    assert [labelled.name_of(label) for label in labels] == ["b", "a", "c"]
    areas = [label.mask(50, 40).sum() for label in labels]
    assert areas == [40, pytest.approx(np.pi * 100, rel=0.02), pytest.approx(np.pi * 72, rel=0.03)]


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (square(), "name no class: give it with --classes NAME"),
        (
            {"shape_attributes": {"name": "point", "cx": 1, "cy": 1}, "region_attributes": {"name": "a"}},
            r"\(1 point\)",
        ),
        ({"shape_attributes": {"name": "polygon"}, "region_attributes": {"name": "a"}}, "not a VIA entry: KeyError"),
        (square(name={"a": True, "b": True}), "2 boxes of name are ticked"),
        ({**square(), "region_attributes": None}, "region_data.json: .*region_attributes is None, an object is needed"),
        ({**square(), "region_attributes": ["a"]}, r"region_attributes is \['a'\], an object"),
        (1, "a region is 1, an object"),
        (
            {
                "shape_attributes": {"name": "rect", "x": 1, "y": float("nan"), "width": 2, "height": 2},
                "region_attributes": {"name": "a"},
            },
            "region_data.json: .*a coordinate is nan",
        ),
        (
            {
                "shape_attributes": {"name": "circle", "cx": 1, "cy": 1, "r": float("inf")},
                "region_attributes": {"name": "a"},
            },
            "region_data.json: .*a coordinate is",
        ),
    ],
)
def test_via_that_makes_no_sense_is_named(tmp_path, region, message, via):
    via(tmp_path, [region])
    with pytest.raises(DatasetError, match=message):
        read(tmp_path, "train", ())


def test_a_missing_photo_is_named(tmp_path, via):
    via(tmp_path, [square(name="a")])
    (tmp_path / "a.png").unlink()
    with pytest.raises(DatasetError, match=r"a\.png does not exist"):
        read(tmp_path, "train", ())


def test_polygons_that_leave_the_photo_are_clipped_and_told(tmp_path, capsys, masks_of, via):
    region = square(name="a")
    region["shape_attributes"]["all_points_x"] = [40, 70, 70, 40]
    via(tmp_path / "in", [region])
    assert main(["convert", str(tmp_path / "in"), "--from", "via", "--out", str(tmp_path / "out")]) == 0
    assert "note: polygons clipped to their photo: 1, the first in a.png" in capsys.readouterr().out
    ((_, ((_, _, mask),)),) = masks_of(tmp_path / "out").items()
    assert mask.sum() == mask[5:25, 40:].sum() == 200


@pytest.mark.skipif("PUMPSEG_DATA" not in os.environ, reason="PUMPSEG_DATA does not name a folder with balloon/")
def test_matterports_balloons(tmp_path):
    source = Path(os.environ["PUMPSEG_DATA"]) / "balloon"
    line = ["convert", str(source), "--from", "via", "--classes", "balloon", "--out", str(tmp_path / "out")]
    assert main(line) == 0
    for split, images, instances in (("train", 61, 255), ("val", 13, 50)):
        coco = COCO(str(tmp_path / "out" / split / "annotations.json"))
        assert (len(coco.imgs), len(coco.anns)) == (images, instances)
        assert all(coco.annToMask(annotation).any() for annotation in coco.anns.values())


def test_points_are_left_out_and_counted(tmp_path, via):
    point = {"shape_attributes": {"name": "point", "cx": 1, "cy": 1}, "region_attributes": {"name": "a"}}
    via(tmp_path, [square(name="a"), point, point])
    found = read(tmp_path, "train", ())
    assert len(found.photos[0].annotations) == 1
    assert found.notes[0].startswith("regions left out because they have no area: 2 (2 point)")


@pytest.mark.parametrize("by_folder", [True, False])
def test_what_via_exports_as_coco_json_is_read(tmp_path, by_folder, photo, coco):
    photo(tmp_path, "a.png", (40, 50))
    shape = {"segmentation": [[10, 5, 20, 5, 20, 25, 10, 25]], "id": 1, "image_id": 1, "category_id": 2}
    point = {"segmentation": [[]], "area": [], "bbox": [], "id": 2, "image_id": 1, "category_id": 2}
    coco(tmp_path, [{"id": 1, "file_name": "a.png", "width": 50, "height": 40}], [shape, point])
    path = (tmp_path / "annotations.json").rename(tmp_path / "via_export_coco.json")
    found = read(tmp_path if by_folder else path, "train", ())
    assert [int(annotation.mask(50, 40).sum()) for annotation in found.photos[0].annotations] == [200]
    assert found.notes[0].startswith("annotations left out because they have no mask: 1")
