"""COCO json of every layout, and what is said of one that makes no sense."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from pumpseg.errors import DatasetError
from pumpseg_train.cli.data import main
from pumpseg_train.convert.coco import read
from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.dataset.masks import encode


def test_a_split_without_labels_is_told(tmp_path, make_split, photo):
    make_split(tmp_path / "train", [[(0, (40, 40, 20, 20))]])
    photo(tmp_path / "test", "a.jpg", (8, 8))
    found = read(tmp_path, "train", ())
    assert list(found.splits) == ["train"]
    assert found.notes == (f"{tmp_path / 'test'} holds no COCO json and was left out",)


def test_coco_of_every_layout(fruit, tmp_path, capsys, masks_of, same):
    wanted = masks_of(fruit)
    original, robo = tmp_path / "original", tmp_path / "robo"
    (original / "annotations").mkdir(parents=True)
    for split, folder in (("train", "train2017"), ("val", "val2017")):
        (original / folder).mkdir()
        (robo / {"val": "valid"}.get(split, split)).mkdir(parents=True)
        text = (fruit / split / "annotations.json").read_text()
        (original / "annotations" / f"instances_{folder}.json").write_text(text)
        (robo / {"val": "valid"}.get(split, split) / "_annotations.coco.json").write_text(text)
        for image in (fruit / split / "images").iterdir():
            for place in (original / folder, robo / {"val": "valid"}.get(split, split)):
                (place / image.name).write_bytes(image.read_bytes())
    for number, source in enumerate((original, robo, fruit)):
        out = tmp_path / f"out{number}"
        assert main(["convert", str(source), "--out", str(out)]) == 0
        same(masks_of(out), wanted)
    single = fruit / "val" / "annotations.json"
    line = ["convert", str(single), "--out", str(tmp_path / "single"), "--split", "val"]
    assert main([*line, "--images", str(fruit / "val" / "images")]) == 0
    same(masks_of(tmp_path / "single"), {key: value for key, value in wanted.items() if key[0] == "val"})


@pytest.mark.parametrize("folder", ["images", "images/default", "default"])
def test_coco_of_cvat_is_one_split(tmp_path, folder, photo, instances):
    instances(tmp_path, "default")
    photo(tmp_path / folder, "x.png", (8, 8))
    ((split, (only,)),) = read(tmp_path, "val", ()).splits.items()
    assert (split, only.path) == ("val", tmp_path / folder / "x.png")


def test_coco_photos_that_lie_elsewhere_or_nowhere(tmp_path, capsys, photo, masks_of, instances):
    instances(tmp_path / "in", "train2017", "val2017")
    photo(tmp_path / "in" / "val2017", "x.png", (8, 8))
    line = ["convert", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    assert main(line) == 2
    seen = capsys.readouterr().err
    assert re.search(r"instances_train2017\.json are missing: no folder .*/train2017 or .*/images/train", seen)
    assert main([*line, "--images", str(tmp_path / "nowhere")]) == 2
    assert "no folder " + str(tmp_path / "nowhere") in capsys.readouterr().err
    assert main([*line, "--images", str(photo(tmp_path / "photos", "x.png", (8, 8)).parent)]) == 0
    assert masks_of(tmp_path / "out") == {("train", "x.png"): [], ("val", "x.png"): []}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train2014", "train2017"), r"instances_train2014\.json and instances_train2017\.json both mean train"),
        (("default", "train"), r"instances_default\.json and instances_train\.json both mean train"),
        (("minival",), r"the name of .*instances_minival\.json means no split"),
    ],
)
def test_coco_files_whose_split_is_unclear_are_refused(tmp_path, names, message, instances):
    instances(tmp_path, *names)
    with pytest.raises(DatasetError, match=message):
        read(tmp_path, "train", ())


def test_two_coco_files_in_a_folder_are_refused(tmp_path, coco):
    coco(tmp_path / "val", [], [])
    (tmp_path / "val" / "_annotations.coco.json").touch()
    with pytest.raises(DatasetError, match=r"val holds both annotations\.json and _annotations\.coco\.json"):
        read(tmp_path, "train", ())


def test_coco_names_that_collide_or_climb_are_tamed(tmp_path, photo, masks_of, coco):
    folder = tmp_path / "in"
    photo(folder / "images" / "x", "a.png", (8, 8))
    photo(folder / "images" / "y", "a.png", (8, 8))
    photo(tmp_path, "secret.png", (8, 8))
    names = ["x/a.png", "y\\a.png"]
    images = [{"id": 1 + i, "file_name": name, "width": 8, "height": 8} for i, name in enumerate(names)]
    polygon = [[1, 1, 5, 1, 5, 5, 1, 5]]
    annotations = [
        {"id": 1 + i, "image_id": image, "category_id": category, "segmentation": polygon, "iscrowd": crowd}
        for i, (image, category, crowd) in enumerate([(1, 5, 0), (2, 2, 1)])
    ]
    coco(folder, images, annotations)
    assert main(["convert", str(folder), "--out", str(tmp_path / "out")]) == 0
    found = masks_of(tmp_path / "out")
    assert [(key[1], value[0][:2]) for key, value in found.items()] == [
        ("a.png", ("b", False)),
        ("a-2.png", ("a", True)),
    ]
    assert read_dataset(tmp_path / "out", "train").classes == ("a", "b")
    # Polygons stay what they were.
    content = json.loads((tmp_path / "out" / "train" / "annotations.json").read_text())
    assert content["annotations"][0]["segmentation"] == polygon

    images[0]["file_name"] = "../../secret.png"
    coco(folder, images, annotations)
    with pytest.raises(DatasetError, match=r"images/secret\.png does not exist"):
        read(folder, "train", ())


def test_coco_labels_without_pixels_are_left_out_and_told(tmp_path, capsys, photo, coco):
    folder = tmp_path / "in"
    photo(folder / "images", "a.png", (8, 8))
    empty = [[2, 2, 2, 2, 2, 2]]
    annotation = {"id": 1, "image_id": 1, "category_id": 2, "segmentation": empty}
    coco(folder, [{"id": 1, "file_name": "a.png", "width": 8, "height": 8}], [annotation])
    assert main(["convert", str(folder), "--out", str(tmp_path / "out")]) == 0
    assert "labels left out because they have no pixel: 1, the first in a.png" in capsys.readouterr().out


@pytest.mark.parametrize("to", ["coco", "labelme", "masks", "index", "yolo", "via"])
@pytest.mark.parametrize(
    ("empty", "note"),
    [
        ([[2, 2, 5, 5]], "annotations left out because they have no mask: 1, the first: a.png, annotation 1"),
        (encode(np.zeros((8, 8), bool)), "labels left out because they have no pixel: 1, the first in a.png"),
    ],
    ids=["corners", "rle"],
)
def test_labels_without_pixels_are_left_out_of_every_format(tmp_path, capsys, to, empty, note, photo, coco):
    folder = tmp_path / "in"
    photo(folder / "images", "a.png", (8, 8))
    annotations = [
        {"id": number, "image_id": 1, "category_id": 2, "segmentation": segmentation}
        for number, segmentation in enumerate((empty, [[1, 1, 6, 1, 6, 6, 1, 6]]), start=1)
    ]
    coco(folder, [{"id": 1, "file_name": "a.png", "width": 8, "height": 8}], annotations)
    assert main(["convert", str(folder), "--to", to, "--out", str(tmp_path / "out")]) == 0
    assert note in capsys.readouterr().out


def test_coco_file_names_that_are_no_text_are_told(tmp_path, coco):
    (tmp_path / "images").mkdir()
    coco(tmp_path, [{"id": 1, "file_name": 5, "width": 8, "height": 8}], [])
    with pytest.raises(DatasetError, match=r"images\[0\] has the file_name 5"):
        read(tmp_path, "train", ())


@pytest.mark.parametrize("width", ["wide", float("inf"), [8], -8, 100_000_000])
def test_coco_sizes_that_are_no_numbers_are_told(tmp_path, width, photo, coco):
    photo(tmp_path / "images", "a.png", (8, 8))
    coco(tmp_path, [{"id": 1, "file_name": "a.png", "width": width, "height": 8}], [])
    with pytest.raises(
        DatasetError, match=r"annotations\.json: a\.png has the size .* x 8: numbers, .* pixels at most"
    ):
        read(tmp_path, "train", ())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segmentation": []}, r"none of the 1 annotations has a mask: its segmentation is \[\]"),
        ({"category_id": 9}, r"annotations\.json: annotation 1: category_id 9 is not in the file"),
        ({"segmentation": {"size": [8, 8]}}, r"annotations\.json: a\.png, annotation 1: KeyError 'counts'"),
        (
            {"segmentation": [[1, 1, 5, 1, 5, float("nan")]]},
            r"a\.png, annotation 1: .*a coordinate is nan",
        ),
        ({"segmentation": [[1, 1, 5, 1, 5, 5, 1]]}, r"annotations\.json: a\.png, annotation 1: .*7 coordinates"),
        ({"segmentation": encode(np.ones((9, 8), bool))}, "is 8x8, a mask of it is 8x9"),
    ],
)
def test_coco_that_makes_no_sense_is_named(tmp_path, change, message, photo, coco):
    photo(tmp_path / "images", "a.png", (8, 8))
    annotation = {"id": 1, "image_id": 1, "category_id": 2, "segmentation": [[1, 1, 5, 1, 5, 5]], **change}
    coco(tmp_path, [{"id": 1, "file_name": "a.png", "width": 8, "height": 8}], [annotation])
    with pytest.raises(DatasetError, match=message):
        read(tmp_path, "train", ())


def test_the_parent_class_of_roboflow_is_named(tmp_path, photo, edit_json, coco):
    photo(tmp_path / "images", "a.png", (8, 8))
    annotation = {"id": 1, "image_id": 1, "category_id": 5, "segmentation": [[1, 1, 6, 1, 6, 6]]}
    coco(tmp_path, [{"id": 1, "file_name": "a.png", "width": 8, "height": 8}], [annotation])
    categories = [{"id": 0, "name": "fruit", "supercategory": "none"}, {"id": 5, "name": "b", "supercategory": "fruit"}]
    edit_json(tmp_path, lambda content: content.update(categories=categories))
    found = read(tmp_path, "train", ())
    assert found.classes == ("fruit", "b")
    assert found.notes == (
        "the class 'fruit' has no annotations and is the parent of others: leave it out with --classes",
    )


@pytest.mark.parametrize("split", ["", "validation/"])
def test_the_layout_of_fiftyone(tmp_path, split, photo, coco):
    folder = tmp_path / split
    photo(folder / "data", "a.png", (8, 8))
    coco(folder, [{"id": 1, "file_name": "a.png", "width": 8, "height": 8}], [])
    (folder / "annotations.json").rename(folder / "labels.json")
    assert list(read(tmp_path, "train", ()).splits) == ["val" if split else "train"]
    assert len(read(folder / "labels.json", "train", ()).photos) == 1


def test_photos_under_another_path_are_told_once(tmp_path, photo, coco):
    photo(tmp_path / "images", "a b.png", (8, 8))
    photo(tmp_path, "c.png", (8, 8))
    names = ["https://example.org/data/a%20b.png", "..\\..\\label-studio\\media\\c.png"]
    coco(tmp_path, [{"id": n, "file_name": name, "width": 8, "height": 8} for n, name in enumerate(names)], [])
    (tmp_path / "annotations.json").rename(tmp_path / "result.json")
    found = read(tmp_path / "result.json", "train", ())
    assert [photo.path for photo in found.photos] == [tmp_path / "images" / "a b.png", tmp_path / "c.png"]
    assert found.notes == (
        f"photos found by the end of their path: 2, the first in {names[0]} at {tmp_path / 'images' / 'a b.png'}",
    )


@pytest.mark.parametrize("name", ["a\0.png", "x" * 256, "\ud800.png"])
def test_names_that_no_file_can_have_are_told(tmp_path, name, photo, coco):
    photo(tmp_path / "images", "a.png", (8, 8))
    coco(tmp_path, [{"id": 1, "file_name": name, "width": 8, "height": 8}], [])
    with pytest.raises(DatasetError, match=r"annotations\.json is not COCO json: "):
        read(tmp_path, "train", ())


@pytest.mark.parametrize("kind", ["absolute", "above", "pipe"])
def test_nothing_outside_the_set_is_read(tmp_path, kind, photo, coco, capsys):
    folder = tmp_path / "set"
    photo(folder / "images", "a.png", (8, 8))
    secret = photo(tmp_path, "secret.png", (8, 8))
    os.mkfifo(folder / "images" / "pipe.png")
    name = {"absolute": str(secret), "above": "../../secret.png", "pipe": "pipe.png"}[kind]
    coco(folder, [{"id": 1, "file_name": name, "width": 8, "height": 8}], [])
    for command in ("convert", "split", "check", "show"):
        output = {"check": [], "show": ["--save", str(tmp_path / "o.png")]}.get(command, ["--out", str(tmp_path / "o")])
        assert main([command, str(folder), *output]) == (1 if command == "check" else 2)
        seen = capsys.readouterr()
        assert Path(name).name in (seen.out if command == "check" else seen.err)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret.png", "set"]
