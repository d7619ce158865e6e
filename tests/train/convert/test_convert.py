"""Every format read and written: what goes there and back is the same to the pixel."""

import base64
import io
import json
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools.coco import COCO

from pumpseg.errors import DatasetError
from pumpseg_train.cli.data import main
from pumpseg_train.convert.formats import FORMATS
from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.dataset.labelled_set import Label, LabelledPhoto, LabelledSet
from pumpseg_train.dataset.masks import decode, encode

CLASSES = ("apple", "pumpkin")
LARGE, MIDDLE = (60, 60, 40, 35), (120, 70, 25, 28)


def photo(folder, name="a.png", size=(12, 16), orientation=None):
    """A grey image file of (h, w) stored pixels."""
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.full((*size, 3), 90, np.uint8))
    exif = image.getexif()
    if orientation:
        exif[0x0112] = orientation
    image.save(path, exif=exif)
    return path


def masks_of(path):
    """{file name: [(class, crowd, mask)]} of every split of a data set of ours."""
    found = {}
    for folder in sorted(path.iterdir()):
        dataset = read_dataset(folder)
        for one in dataset.photos:
            found[folder.name, one.path.name] = [
                (dataset.classes[a.class_id - 1], a.crowd, a.mask(one.width, one.height).astype(bool))
                for a in one.annotations
            ]
    return found


def same(left, right):
    def key(entry):
        return entry[0], entry[1], entry[2].tobytes()

    assert left.keys() == right.keys()
    for name in left:
        assert sorted(map(key, left[name])) == sorted(map(key, right[name])), name


def there_and_back(source, folder, name):
    """The data set `source` as another format, and that as a data set again; both folders."""
    between, back = folder / name, folder / f"{name}-back"
    assert main(["convert", str(source), "--to", name, "--out", str(between)]) == 0
    classes = read_dataset(source, "train").classes
    # YOLO's own file has the classes in order; the others are told them, which also keeps classes that do not occur.
    named = [] if name == "yolo" else ["--classes", *classes]
    assert main(["convert", str(between), "--from", name, "--out", str(back), *named]) == 0
    return between, back


@pytest.mark.parametrize("name", sorted(FORMATS))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(CLASSES), st.booleans(), arrays(bool, (12, 16)).filter(np.any)), max_size=4))
def test_masks_survive_the_way_there_and_back(name, tmp_path_factory, labels):
    folder = tmp_path_factory.mktemp("convert")
    if name == "index":  # holds each pixel once
        free, kept = np.ones((12, 16), bool), []
        for class_name, crowd, mask in labels:
            if (mask & free).any() and not (crowd and any(c and n == class_name for n, c, _ in kept)):
                kept.append((class_name, crowd, mask & free))
                free &= ~mask
        labels = kept
    photos = tuple(
        LabelledPhoto(photo(folder, f"{index}.png"), 16, 12, tuple(Label(n, encode(m), c) for n, c, m in some))
        for index, some in enumerate([labels, []])
    )
    labelled = LabelledSet(CLASSES, {"train": photos})
    FORMATS["coco"].write(labelled, folder / "coco", link=False)
    same(masks_of(folder / "coco"), {("train", "0.png"): labels, ("train", "1.png"): []})
    between = folder / "between"
    between.mkdir()
    written = FORMATS[name].write(labelled, between, link=False)
    again = FORMATS[name].read(between, "train", CLASSES)
    crowds = sum(crowd for _, crowd, _ in labels)
    expressed = labels
    if name in ("via", "yolo"):
        expressed = [entry for entry in labels if not entry[1]]
        assert bool(written.notes) == bool(crowds)
    counted = [(x.class_name, x.crowd) for x in written.splits["train"][0].labels]
    assert sorted(counted) == sorted((class_name, crowd) for class_name, crowd, _ in expressed)
    got = [
        (x.class_name, x.crowd, decode(x.segmentation, 16, 12).astype(bool)) for x in again.splits["train"][0].labels
    ]
    same({"": got}, {"": expressed})
    assert again.splits["train"][1].labels == ()


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_the_command_goes_there_and_back(name, fruit, tmp_path, capsys):
    _, back = there_and_back(fruit, tmp_path, name)
    if name == "index":  # one fruit covers a part of the other
        return
    same(masks_of(back), masks_of(fruit))
    assert "train: 3 images, 4 instances, 0 crowd regions" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_nothing_is_written_over_or_half(name, fruit, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    assert main(["convert", str(fruit), "--to", name, "--out", str(tmp_path / "full")]) == 2
    assert "is not an empty folder" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "nowhere"), "--from", name, "--out", str(tmp_path / "out")]) == 2
    assert re.match(r"pumpseg-data: error: .*nowhere", capsys.readouterr().err)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


def test_classes_are_chosen_renamed_and_numbered(tmp_path, make_split, capsys):
    make_split(tmp_path / "in" / "train", [[(0, LARGE), (1, MIDDLE)], [(2, LARGE)]], ("apple", "pear", "plum"))
    out = tmp_path / "out"
    line = ["convert", str(tmp_path / "in"), "--out", str(out), "--rename", "plum=pear", "--classes", "pear"]
    assert main(line) == 0
    content = json.loads((out / "train" / "annotations.json").read_text())
    assert content["categories"] == [{"id": 1, "name": "pear"}]
    assert [annotation["category_id"] for annotation in content["annotations"]] == [1, 1]
    assert len(content["images"]) == 2
    assert main([*line[:-1], "peer"]) == 2
    assert "there is no class 'peer': there are apple, pear" in capsys.readouterr().err
    assert main([*line, "--rename", "kiwi=pear"]) == 2
    assert "no class 'kiwi' to rename" in capsys.readouterr().err
    assert main([*line, "--rename", "kiwi"]) == 2
    assert "OLD=NEW is needed" in capsys.readouterr().err


def test_a_class_named_twice_is_refused(fruit, tmp_path, capsys):
    assert main(["convert", str(fruit), "--out", str(tmp_path / "out"), "--classes", "apple", "apple"]) == 2
    assert "--classes names 'apple' twice" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_crowd_regions_are_counted_as_they_are_written(tmp_path, name, capsys):
    photo(tmp_path / "in" / "images", "a.png", (8, 8))
    annotations = [
        {"id": row, "image_id": 1, "category_id": 5, "iscrowd": row % 2, "segmentation": [[1, row, 6, row, 6, row + 1]]}
        for row in (1, 3, 4)
    ]
    coco(tmp_path / "in", [{"id": 1, "file_name": "a.png", "width": 8, "height": 8}], annotations)
    line = ["convert", str(tmp_path / "in"), "--to", name, "--out", str(tmp_path / "out"), "--classes", "b"]
    assert main(line) == 0
    said = capsys.readouterr().out
    left_out = name in ("via", "yolo", "index")
    assert ("note: 2 crowd regions were left out" in said) == left_out
    assert f"train: 1 images, 1 instances, {0 if left_out else 2} crowd regions" in said


def test_instances_that_an_index_cannot_hold_are_not_counted(tmp_path, capsys):
    photo(tmp_path / "in" / "images", "a.png", (8, 8))
    annotations = [
        {"id": number, "image_id": 1, "category_id": 5, "segmentation": [[1, 1, 6, 1, 6, 6]]} for number in (1, 2)
    ]
    coco(tmp_path / "in", [{"id": 1, "file_name": "a.png", "width": 8, "height": 8}], annotations)
    assert main(["convert", str(tmp_path / "in"), "--to", "index", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "1 instances are wholly covered by others and lost" in said
    assert "train: 1 images, 1 instances" in said


@pytest.mark.parametrize("name", ["coco", "via", "labelme", "masks", "index"])
def test_two_folders_of_one_split_are_refused(tmp_path, name, capsys):
    for folder in ("train_1", "train_2"):
        photo(tmp_path / "in" / folder / "images")
    assert main(["convert", str(tmp_path / "in"), "--from", name, "--out", str(tmp_path / "out")]) == 2
    assert "train_1 and train_2 both mean train" in capsys.readouterr().err


def test_links_instead_of_copies(fruit, tmp_path):
    make = [tmp_path / "copies", tmp_path / "links"]
    assert main(["convert", str(fruit), "--out", str(make[0])]) == 0
    assert main(["convert", str(make[0]), "--out", str(make[1]), "--link"]) == 0
    path = "train/images/0.png"
    assert (make[0] / path).samefile(make[1] / path)


# --- VIA ------------------------------------------------------------------------------------------------------------


def via(folder, regions, name="via_region_data.json", wrap=lambda entries: entries):
    photo(folder, "a.png", (40, 50))
    entry = {"filename": "a.png", "size": 1, "regions": regions, "file_attributes": {}}
    (folder / name).write_text(json.dumps(wrap({"a.png1": entry})))


def square(**attributes):
    shape = {"name": "polygon", "all_points_x": [10, 20, 20, 10], "all_points_y": [5, 5, 25, 25]}
    return {"shape_attributes": shape, "region_attributes": attributes}


@pytest.mark.parametrize("wrap", [lambda entries: entries, lambda entries: {"_via_img_metadata": entries}])
@pytest.mark.parametrize("as_list", [True, False])
def test_via_of_both_versions(tmp_path, wrap, as_list):
    regions = [square(), square()]
    via(tmp_path / "in" / "valid", regions if as_list else {"0": regions[0], "1": regions[1]}, "x.json", wrap)
    line = ["convert", str(tmp_path / "in"), "--from", "via", "--out", str(tmp_path / "out"), "--classes", "balloon"]
    assert main(line) == 0
    ((name, found),) = masks_of(tmp_path / "out").items()
    assert name == ("val", "a.png")
    assert [(n, c, m.sum()) for n, c, m in found] == [("balloon", False, 200)] * 2


def test_via_shapes_and_class_attributes(tmp_path):
    shapes = [
        {"name": "rect", "x": 2, "y": 3, "width": 10, "height": 4},
        {"name": "circle", "cx": 25, "cy": 20, "r": 10},
        {"name": "ellipse", "cx": 25, "cy": 20, "rx": 12, "ry": 6, "theta": 0.5},
    ]
    attributes = [{"name": "b", "colour": "red"}, {"label": {"a": True, "b": False}}, {"kind": "c", "note": ""}]
    regions = [{"shape_attributes": s, "region_attributes": a} for s, a in zip(shapes, attributes, strict=True)]
    via(tmp_path, regions)
    labelled = FORMATS["via"].read(tmp_path, "train", ())
    assert labelled.classes == ("a", "b", "c")
    labels = labelled.splits["train"][0].labels
    assert [label.class_name for label in labels] == ["b", "a", "c"]
    areas = [decode(label.segmentation, 50, 40).sum() for label in labels]
    assert areas == [40, pytest.approx(np.pi * 100, rel=0.02), pytest.approx(np.pi * 72, rel=0.03)]


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (square(), "name no class: say which it is with --classes NAME"),
        ({"shape_attributes": {"name": "point", "cx": 1, "cy": 1}, "region_attributes": {"name": "a"}}, "a point has"),
        ({"shape_attributes": {"name": "polygon"}, "region_attributes": {"name": "a"}}, "no VIA entry: KeyError"),
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
def test_via_that_makes_no_sense_is_named(tmp_path, region, message):
    via(tmp_path, [region])
    with pytest.raises(DatasetError, match=message):
        FORMATS["via"].read(tmp_path, "train", ())


def test_polygons_that_leave_the_photo_are_clipped_and_told(tmp_path, capsys):
    region = square(name="a")
    region["shape_attributes"]["all_points_x"] = [40, 70, 70, 40]
    via(tmp_path / "in", [region])
    assert main(["convert", str(tmp_path / "in"), "--from", "via", "--out", str(tmp_path / "out")]) == 0
    assert "note: 1 polygons left their photo and were clipped, the first in a.png" in capsys.readouterr().out
    ((_, ((_, _, mask),)),) = masks_of(tmp_path / "out").items()
    assert mask.sum() == mask[5:25, 40:].sum() == 200


def test_a_missing_photo_is_named(tmp_path):
    via(tmp_path, [square(name="a")])
    (tmp_path / "a.png").unlink()
    with pytest.raises(DatasetError, match=r"a\.png does not exist"):
        FORMATS["via"].read(tmp_path, "train", ())


@pytest.mark.skipif("PUMPSEG_DATA" not in os.environ, reason="PUMPSEG_DATA does not name a folder with balloon/")
def test_matterports_balloons(tmp_path):
    source = Path(os.environ["PUMPSEG_DATA"]) / "balloon"
    line = ["convert", str(source), "--from", "via", "--classes", "balloon", "--out", str(tmp_path / "out")]
    assert main(line) == 0
    for split, images, instances in (("train", 61, 255), ("val", 13, 50)):
        coco = COCO(str(tmp_path / "out" / split / "annotations.json"))
        assert (len(coco.imgs), len(coco.anns)) == (images, instances)
        assert all(coco.annToMask(annotation).any() for annotation in coco.anns.values())


# --- labelme --------------------------------------------------------------------------------------------------------


def labelme(folder, shapes, size=(40, 50), **options):
    photo(folder, "a.jpg", size, **options)
    content = {"imagePath": "a.jpg", "imageHeight": size[0], "imageWidth": size[1], "imageData": None, "shapes": shapes}
    (folder / "a.json").write_text(json.dumps(content))


def shape(points, kind="polygon", label="a", **more):
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}, **more}


BOX = [[10, 5], [20, 5], [20, 25], [10, 25]]


def test_labelme_shapes(tmp_path):
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
    labels = FORMATS["labelme"].read(tmp_path, "train", ()).splits["train"][0].labels
    areas = [int(decode(label.segmentation, 50, 40).sum()) for label in labels]
    assert areas == [200, 40, pytest.approx(np.pi * 100, rel=0.02), 2, 400, 202]
    assert sorted(map(tuple, np.argwhere(decode(labels[3].segmentation, 50, 40)))) == [(4, 3), (5, 4)]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([shape([[1, 1]], "point")], "a point has no area"),
        ([shape([[1, 1], [2, 2]])], "a polygon of 2 corners"),
        ([{"label": "a"}], "KeyError"),
        ([shape([[1, 1], [2, 2]], "mask", mask="!!!")], "is not labelme json"),
        ([shape(BOX), shape(BOX, label=None)], r"a\.json is not labelme json: TypeError label None is no text"),
        ([shape([[1, 1], [2, float("nan")], [3, 3]])], r"a\.json .*a coordinate is nan"),
        ([shape([[1, 1], [2, float("inf")]], "rectangle")], r"a\.json .*a coordinate is inf"),
        ([shape([[1, 1], [float("inf"), 2]], "circle")], r"a\.json .*a coordinate is"),
        ([shape([[1, 1], [float("inf"), 2]], "mask", mask="")], r"a\.json is not labelme json"),
        ([shape([[1, 1, 1], [2, 2, 1], [1, 2, 1]])], r"a\.json is not labelme json"),
    ],
)
def test_labelme_that_makes_no_sense_is_named(tmp_path, shapes, message):
    labelme(tmp_path, shapes)
    with pytest.raises(DatasetError, match=message):
        FORMATS["labelme"].read(tmp_path, "train", ())


def test_labelme_photos_without_json_are_told(tmp_path):
    labelme(tmp_path, [shape(BOX)])
    photo(tmp_path, "b.jpg")
    labelled = FORMATS["labelme"].read(tmp_path, "train", ())
    assert len(labelled.splits["train"]) == 1
    assert labelled.notes == ("1 images without a json were left out",)


def test_labels_of_stored_pixels_are_turned_with_the_photo(tmp_path):
    labelme(tmp_path, [shape(BOX)], orientation=6)
    (turned,) = FORMATS["labelme"].read(tmp_path, "train", ()).splits["train"]
    assert (turned.width, turned.height) == (40, 50)
    stored = np.zeros((40, 50), bool)
    stored[5:25, 10:20] = True
    assert np.array_equal(decode(turned.labels[0].segmentation, 40, 50), np.rot90(stored, -1))


def test_labels_of_another_size_are_refused(tmp_path):
    labelme(tmp_path, [shape(BOX)])
    photo(tmp_path, "a.jpg", (41, 50))
    with pytest.raises(DatasetError, match=r"a\.jpg is 50x41, its labels are for 50x40"):
        FORMATS["labelme"].read(tmp_path, "train", ())


# --- YOLO -----------------------------------------------------------------------------------------------------------


def yolo(root, line="0 0.2 0.125 0.4 0.125 0.4 0.625 0.2 0.625", settings="names: [a, b]\ntrain: images/train\n"):
    photo(root / "images" / "train", "a.png", (40, 50))
    (root / "labels" / "train").mkdir(parents=True, exist_ok=True)
    (root / "labels" / "train" / "a.txt").write_text(line + "\n")
    if settings:
        (root / "data.yaml").write_text(settings)


@pytest.mark.parametrize(
    "settings",
    [
        "names: [a, b]\ntrain: images/train\n",
        "path: /not/on/this/machine\nnames: {0: a, 1: b}\ntrain: [images/train]\nval:\n",
        "names: [a, b]\ntrain: ../images/train\n",
        "names: [a, b]\ntrain: list.txt\n",
        None,
    ],
)
def test_yolo_of_every_make(tmp_path, settings):
    yolo(tmp_path, settings=settings)
    (tmp_path / "list.txt").write_text("./images/train/a.png\n")
    photo(tmp_path / "images" / "train", "negative.png")
    labelled = FORMATS["yolo"].read(tmp_path, "train", ("a", "b"))
    assert labelled.classes == ("a", "b")
    first = labelled.splits["train"][0]
    mask = decode(first.labels[0].segmentation, 50, 40)
    assert mask.sum() == mask[5:25, 10:20].sum() == 200
    assert len(labelled.splits["train"]) == (1 if settings and "list" in settings else 2)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.2 0.2", r"a\.txt, line 1 is a box"),
        ("2 0.2 0.1 0.4 0.1 0.4 0.6", "has class 2, there are 2 classes"),
        ("-1 0.2 0.1 0.4 0.1 0.4 0.6", "has class -1"),
        ("0 0.2 0.1 0.4 0.1 0.4 0.6 0.1", "has 7 coordinates"),
        ("0 0.2 x 0.4 0.1 0.4 0.6", "is not a class number and coordinates"),
        ("0 0.2 nan 0.4 0.1 0.4 0.6", r"a\.txt, line 1 .*a coordinate is nan"),
        ("0 0.2 0.1 -inf 0.1 0.4 0.6", r"a\.txt, line 1 .*a coordinate is -inf"),
    ],
)
def test_yolo_lines_that_make_no_sense_are_named(tmp_path, line, message):
    yolo(tmp_path, line)
    with pytest.raises(DatasetError, match=message):
        FORMATS["yolo"].read(tmp_path, "train", ())


@pytest.mark.parametrize("settings", ["names: [a, b]\ntrain: images/train\n", None])
def test_yolo_photos_in_folders_of_folders_are_found(tmp_path, settings):
    yolo(tmp_path, settings=settings)
    photo(tmp_path / "images" / "train" / "day1", "a.png", (40, 50))
    photo(tmp_path / "images" / "train" / ".thumbnails", "a.png")
    (tmp_path / "labels" / "train" / "day1").mkdir()
    (tmp_path / "labels" / "train" / "day1" / "a.txt").write_text("1 0 0 1 0 1 1 0 1\n")
    photos = FORMATS["yolo"].read(tmp_path, "train", ("a", "b")).splits["train"]
    assert [[label.class_name for label in one.labels] for one in photos] == [["a"], ["b"]]


def test_yolo_splits_without_images_or_without_labels_are_refused(tmp_path):
    yolo(tmp_path, settings="names: [a, b]\ntrain: images/train\nval: images/val\n")
    (tmp_path / "images" / "val").mkdir()
    with pytest.raises(DatasetError, match="there are no images of the split val"):
        FORMATS["yolo"].read(tmp_path, "train", ())
    photo(tmp_path / "images" / "val", "b.png")
    with pytest.raises(DatasetError, match=r"no image of the split val has a label file: .*labels/val/b\.txt"):
        FORMATS["yolo"].read(tmp_path, "train", ())


def test_yolo_splits_that_are_named_twice_are_refused(tmp_path):
    yolo(tmp_path, settings="names: [a, b]\nval: images/train\nvalid: images/train\n")
    with pytest.raises(DatasetError, match=r"data\.yaml: val and valid both mean val"):
        FORMATS["yolo"].read(tmp_path, "train", ())
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "images" / "train_2").mkdir()
    with pytest.raises(DatasetError, match="train and train_2 both mean train"):
        FORMATS["yolo"].read(tmp_path, "train", ("a",))


def test_yolo_lines_in_another_encoding_are_told(tmp_path):
    yolo(tmp_path, "0 0.2 0.1 0.4 0.1 0.4 0.6")
    label = next(tmp_path.rglob("a.txt"))
    label.write_bytes(b"0 0.2 \xe9 0.4 0.1")
    with pytest.raises(DatasetError, match=r"cannot read .*a\.txt: 'utf-8' codec"):
        FORMATS["yolo"].read(tmp_path, "train", ())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("names: [a]\n", "names neither train, val nor test"),
        ("train: images/train\n", "no data.yaml of YOLO: KeyError 'names'"),
        ("names: [a]\ntrain: images/elsewhere\n", "is neither a folder nor a list"),
        ("names: {1: a}\ntrain: images/train\n", "not numbered from 0"),
        ("{", "no data.yaml of YOLO"),
    ],
)
def test_yolo_settings_that_make_no_sense_are_named(tmp_path, settings, message):
    yolo(tmp_path, settings=settings)
    with pytest.raises(DatasetError, match=message):
        FORMATS["yolo"].read(tmp_path, "train", ())


# --- PNG ------------------------------------------------------------------------------------------------------------


def test_masks_beside_each_other_and_in_colour(tmp_path):
    photo(tmp_path / "images", "a[1].jpg", (8, 8))
    (tmp_path / "masks").mkdir()
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[2:4, 2:4, 1] = 200
    cv2.imwrite(str(tmp_path / "masks" / "a[1]_m05zsy_12.png"), pixels)
    (only,) = FORMATS["masks"].read(tmp_path, "train", ("pumpkin",)).splits["train"]
    assert decode(only.labels[0].segmentation, 8, 8).sum() == 4


def test_masks_beside_each_other_go_to_the_longest_name(tmp_path):
    for name in ("pumpkin.jpg", "pumpkin_2.jpg", "pump.jpg"):
        photo(tmp_path / "images", name, (8, 8))
    (tmp_path / "masks").mkdir()
    for size, name in enumerate(("pumpkin_1", "pumpkin_3_1", "pumpkin_2_1"), start=1):
        pixels = np.zeros((8, 8), np.uint8)
        pixels[0, :size] = 255
        cv2.imwrite(str(tmp_path / "masks" / f"{name}.png"), pixels)
    photos = FORMATS["masks"].read(tmp_path, "train", ("pumpkin",)).splits["train"]
    areas = {one.path.stem: [int(decode(x.segmentation, 8, 8).sum()) for x in one.labels] for one in photos}
    assert areas == {"pump": [], "pumpkin": [1, 2], "pumpkin_2": [3]}


def test_masks_that_fit_no_photo_are_told(tmp_path):
    photo(tmp_path / "images", "a.jpg", (8, 8))
    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "masks" / "b_1.png"), np.full((8, 8), 255, np.uint8))
    with pytest.raises(DatasetError, match=r"no photo has a mask: 1 masks are called like no photo .*b_1\.png"):
        FORMATS["masks"].read(tmp_path, "train", ("pumpkin",))
    cv2.imwrite(str(tmp_path / "masks" / "a_1.png"), np.full((8, 8), 255, np.uint8))
    found = FORMATS["masks"].read(tmp_path, "train", ("pumpkin",))
    assert len(found.splits["train"][0].labels) == 1
    assert [note.endswith("b_1.png") for note in found.notes] == [True]


def test_a_split_without_labels_is_told(tmp_path, make_split):
    make_split(tmp_path / "train", [[(0, (40, 40, 20, 20))]])
    photo(tmp_path / "test", "a.jpg", (8, 8))
    found = FORMATS["coco"].read(tmp_path, "train", ())
    assert list(found.splits) == ["train"]
    assert found.notes == (f"{tmp_path / 'test'} holds no COCO json and was left out",)


def test_masks_of_several_classes_go_by_their_names(tmp_path):
    photo(tmp_path / "images", "a.jpg", (8, 8))
    (tmp_path / "masks" / "a").mkdir(parents=True)
    for name in ("red apple_1", "apple_2"):
        cv2.imwrite(str(tmp_path / "masks" / "a" / f"{name}.png"), np.full((8, 8), 255, np.uint8))
    (only,) = FORMATS["masks"].read(tmp_path, "train", ("apple", "red apple")).splits["train"]
    assert [label.class_name for label in only.labels] == ["apple", "red apple"]
    with pytest.raises(DatasetError, match="begins with no class name"):
        FORMATS["masks"].read(tmp_path, "train", ())


def test_a_palette_is_read_by_its_indices_and_255_is_void(tmp_path):
    photo(tmp_path / "images", "a.jpg", (8, 8))
    (tmp_path / "masks").mkdir()
    pixels = np.zeros((8, 8), np.uint8)
    pixels[:2], pixels[2:4], pixels[4:5] = 1, 2, 255
    image = Image.frombytes("P", (8, 8), pixels.tobytes())
    image.putpalette([value for index in range(256) for value in (0, 0, index % 2)])
    image.save(tmp_path / "masks" / "a.png")
    (only,) = FORMATS["index"].read(tmp_path, "train", ("pumpkin",)).splits["train"]
    assert [int(decode(label.segmentation, 8, 8).sum()) for label in only.labels] == [16, 16]


def test_an_index_of_several_classes_is_that_of_cityscapes(tmp_path):
    photo(tmp_path / "images", "a.jpg", (8, 8))
    (tmp_path / "masks").mkdir()
    pixels = np.zeros((8, 8), np.uint16)
    pixels[0], pixels[1], pixels[2] = 1000, 2001, 2
    cv2.imwrite(str(tmp_path / "masks" / "a.png"), pixels)
    (only,) = FORMATS["index"].read(tmp_path, "train", CLASSES).splits["train"]
    assert [(label.class_name, label.crowd) for label in only.labels] == [
        ("pumpkin", True),
        ("apple", True),
        ("pumpkin", False),
    ]
    pixels[0] = 3001
    cv2.imwrite(str(tmp_path / "masks" / "a.png"), pixels)
    with pytest.raises(DatasetError, match="has the value 3001, whose class 3 is none of the 2"):
        FORMATS["index"].read(tmp_path, "train", CLASSES)


def test_masks_of_another_size_than_the_photo_are_refused(tmp_path):
    photo(tmp_path / "images", "a.jpg", (8, 8))
    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "masks" / "a.png"), np.ones((9, 8), np.uint8))
    with pytest.raises(DatasetError, match=r"a\.jpg is 8x8, its labels are for 8x9"):
        FORMATS["index"].read(tmp_path, "train", ("pumpkin",))


# --- COCO -----------------------------------------------------------------------------------------------------------


def test_coco_of_every_layout(fruit, tmp_path, capsys):
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


def coco(folder, images, annotations):
    categories = [{"id": 5, "name": "b"}, {"id": 2, "name": "a"}]
    folder.mkdir(parents=True, exist_ok=True)
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))


def instances(source, *names):
    """annotations/instances_NAME.json of one photo, x.png, each, and no photos."""
    coco(source, [{"id": 1, "file_name": "x.png", "width": 8, "height": 8}], [])
    (source / "annotations").mkdir()
    for name in names:
        (source / "annotations" / f"instances_{name}.json").write_text((source / "annotations.json").read_text())
    (source / "annotations.json").unlink()


@pytest.mark.parametrize("folder", ["images", "images/default", "default"])
def test_coco_of_cvat_is_one_split(tmp_path, folder):
    instances(tmp_path, "default")
    photo(tmp_path / folder, "x.png", (8, 8))
    ((split, (only,)),) = FORMATS["coco"].read(tmp_path, "val", ()).splits.items()
    assert (split, only.path) == ("val", tmp_path / folder / "x.png")


def test_coco_photos_that_lie_elsewhere_or_nowhere(tmp_path, capsys):
    instances(tmp_path / "in", "train2017", "val2017")
    photo(tmp_path / "in" / "val2017", "x.png", (8, 8))
    line = ["convert", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    assert main(line) == 2
    seen = capsys.readouterr().err
    assert re.search(r"instances_train2017\.json are missing: there is no folder .*/train2017 or .*/images/train", seen)
    assert main([*line, "--images", str(tmp_path / "nowhere")]) == 2
    assert "there is no folder " + str(tmp_path / "nowhere") in capsys.readouterr().err
    assert main([*line, "--images", str(photo(tmp_path / "photos", "x.png", (8, 8)).parent)]) == 0
    assert masks_of(tmp_path / "out") == {("train", "x.png"): [], ("val", "x.png"): []}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train2014", "train2017"), r"instances_train2014\.json and instances_train2017\.json both mean train"),
        (("default", "train"), r"instances_default\.json and instances_train\.json both mean train"),
        (("minival",), r"instances_minival\.json is named like no split"),
    ],
)
def test_coco_files_whose_split_is_unclear_are_refused(tmp_path, names, message):
    instances(tmp_path, *names)
    with pytest.raises(DatasetError, match=message):
        FORMATS["coco"].read(tmp_path, "train", ())


def test_two_coco_files_in_a_folder_are_refused(tmp_path):
    coco(tmp_path / "val", [], [])
    (tmp_path / "val" / "_annotations.coco.json").touch()
    with pytest.raises(DatasetError, match=r"val holds both annotations\.json and _annotations\.coco\.json"):
        FORMATS["coco"].read(tmp_path, "train", ())


def test_coco_names_that_collide_or_climb_are_tamed(tmp_path):
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
        FORMATS["coco"].read(folder, "train", ())


def test_coco_labels_without_pixels_are_left_out_and_told(tmp_path, capsys):
    folder = tmp_path / "in"
    photo(folder / "images", "a.png", (8, 8))
    empty = [[2, 2, 2, 2, 2, 2]]
    annotation = {"id": 1, "image_id": 1, "category_id": 2, "segmentation": empty}
    coco(folder, [{"id": 1, "file_name": "a.png", "width": 8, "height": 8}], [annotation])
    assert main(["convert", str(folder), "--out", str(tmp_path / "out")]) == 0
    assert "1 labels without a pixel were left out, the first in a.png" in capsys.readouterr().out


@pytest.mark.parametrize("to", ["coco", "labelme", "masks", "index", "yolo", "via"])
@pytest.mark.parametrize("empty", [[[2, 2, 5, 5]], encode(np.zeros((8, 8), bool))], ids=["corners", "rle"])
def test_labels_without_pixels_are_left_out_of_every_format(tmp_path, capsys, to, empty):
    folder = tmp_path / "in"
    photo(folder / "images", "a.png", (8, 8))
    annotations = [
        {"id": number, "image_id": 1, "category_id": 2, "segmentation": segmentation}
        for number, segmentation in enumerate((empty, [[1, 1, 6, 1, 6, 6, 1, 6]]), start=1)
    ]
    coco(folder, [{"id": 1, "file_name": "a.png", "width": 8, "height": 8}], annotations)
    assert main(["convert", str(folder), "--to", to, "--out", str(tmp_path / "out")]) == 0
    assert "1 labels without a pixel were left out, the first in a.png" in capsys.readouterr().out


def test_coco_file_names_that_are_no_text_are_told(tmp_path):
    coco(tmp_path, [{"id": 1, "file_name": 5, "width": 8, "height": 8}], [])
    with pytest.raises(DatasetError, match="file_name 5 is no text"):
        FORMATS["coco"].read(tmp_path, "train", ())


@pytest.mark.parametrize("width", [None, "wide", float("inf"), [8]])
def test_coco_sizes_that_are_no_numbers_are_told(tmp_path, width):
    photo(tmp_path / "images", "a.png", (8, 8))
    coco(tmp_path, [{"id": 1, "file_name": "a.png", "width": width, "height": 8}], [])
    with pytest.raises(DatasetError, match=r"annotations\.json: a\.png is of .* x 8 pixels, numbers are needed"):
        FORMATS["coco"].read(tmp_path, "train", ())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segmentation": []}, "annotation 1 has no mask, only a box"),
        ({"category_id": 9}, "is of a category or an image that the file does not have"),
        ({"segmentation": {"size": [8, 8]}}, r"annotations\.json: a\.png: a mask is neither polygons nor run lengths"),
        ({"segmentation": [[1, 1, 5, 1, 5, float("nan")]]}, r"annotations\.json: a\.png: .*a coordinate is nan"),
        ({"segmentation": [[1, 1, 5, 1, 5, 5, 1]]}, r"annotations\.json: a\.png: .*7 coordinates"),
        ({"segmentation": encode(np.ones((9, 8), bool))}, "is 8x8, a mask of it is 8x9"),
    ],
)
def test_coco_that_makes_no_sense_is_named(tmp_path, change, message):
    photo(tmp_path / "images", "a.png", (8, 8))
    annotation = {"id": 1, "image_id": 1, "category_id": 2, "segmentation": [[1, 1, 5, 1, 5, 5]], **change}
    coco(tmp_path, [{"id": 1, "file_name": "a.png", "width": 8, "height": 8}], [annotation])
    with pytest.raises(DatasetError, match=message):
        FORMATS["coco"].read(tmp_path, "train", ())
