"""pumpseg-data check: every planted fault is found and named, and nothing else."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from pumpseg_train.cli.data import main
from pumpseg_train.dataset.check import near_pairs
from pumpseg_train.dataset.masks import encode

SIZE = (90, 120)  # h, w


def picture(seed):
    """Coarse noise: no two are alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC)


def save(path, image, orientation=None, **options):
    image = Image.fromarray(image)
    exif = image.getexif()
    if orientation:
        exif[0x0112] = orientation
    image.save(path, exif=exif, **options)


def rectangle(x, y, w, h):
    mask = np.zeros(SIZE, bool)
    mask[y : y + h, x : x + w] = True
    return {"segmentation": encode(mask), "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0, "category_id": 1}


def write(folder, labels, seed=0, names=("pumpkin", "apple")):
    """A split of one photo per list of annotations."""
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for index, own in enumerate(labels):
        save(folder / "images" / f"{index}.png", picture((seed, index)))
        images.append({"id": index + 1, "file_name": f"{index}.png", "width": SIZE[1], "height": SIZE[0]})
        for annotation in own:
            annotations.append({**annotation, "id": len(annotations) + 1, "image_id": index + 1})
    categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))


def change(folder, edit):
    path = folder / "annotations.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


@pytest.fixture
def clean(tmp_path):
    """Two splits without a fault."""
    folder = tmp_path / "data"
    labels = [
        [rectangle(10, 10, 30, 20), {**rectangle(60, 40, 20, 20), "category_id": 2}],
        [rectangle(5, 5, 40, 40)],
        [],
    ]
    write(folder / "train", labels)
    write(folder / "val", labels, seed=1)
    return folder


def findings(folder, tmp_path, code, *more):
    """{(level, kind): [what, ...]} and the printed text is left to capsys."""
    out = tmp_path / "findings.json"
    assert main(["check", str(folder), "--json", str(out), *more]) == code
    found = {}
    for finding in json.loads(out.read_text()):
        found.setdefault((finding["fault"], finding["kind"]), []).append((finding["split"], finding["what"]))
    return found


def test_a_clean_set_is_clean(clean, tmp_path, capsys):
    assert findings(clean, tmp_path, 0) == {}
    assert capsys.readouterr().out.endswith("6 images in 2 splits, 0 faults, 0 warnings\n")


def test_every_planted_fault_is_found_and_nothing_else(clean, tmp_path, capsys):
    train, val = clean / "train", clean / "val"
    images = train / "images"

    def plant(content):
        size = {"width": SIZE[1], "height": SIZE[0]}
        names = ["gone.png", "empty.jpg", "cut.jpg", "text.jpg", "small.png", "turned.jpg"]
        content["images"] += [{"id": 100 + n, "file_name": name, **size} for n, name in enumerate(names)]
        content["images"] += [
            {"id": 200, "file_name": "copy.png", **size},
            {"id": 201, "file_name": "near.jpg", **size},
        ]
        content["images"].append({"id": 201, "file_name": "id.png", **size})
        beyond = [[100.0, 10.0, 135.0, 10.0, 135.0, 30.0, 100.0, 30.0]]
        edge = [[110.0, 50.0, 120.6, 50.0, 120.6, 60.0, 110.0, 60.0]]  # rounding, no fault
        other = encode(np.ones((SIZE[0], SIZE[1] - 1), bool))
        broken = {"size": list(SIZE), "counts": rectangle(1, 1, 9, 9)["segmentation"]["counts"][:-1]}
        extra = [
            (1, {"category_id": 9}),
            (999, {}),
            (3, {"segmentation": beyond, "bbox": [100, 10, 20, 20]}),
            (3, {"segmentation": edge, "bbox": [110, 50, 10, 10]}),
            (3, {"segmentation": other, "bbox": [0, 0, 119, 90]}),
            (3, {"segmentation": broken}),
            (3, {"segmentation": []}),
            (3, {"segmentation": encode(np.zeros(SIZE, bool)), "bbox": [0, 0, 0, 0]}),
            (3, {**rectangle(70, 70, 3, 2)}),
            (2, {"bbox": [50, 50, 20, 20], "segmentation": rectangle(80, 8, 20, 20)["segmentation"]}),
            (2, {**rectangle(5, 5, 40, 39)}),
            (2, {**rectangle(5, 5, 40, 40), "iscrowd": 1}),
        ]
        for n, (image_id, more) in enumerate(extra):
            content["annotations"].append({**rectangle(50, 60, 20, 10), "id": 50 + n, "image_id": image_id, **more})
        content["annotations"].append({**rectangle(90, 60, 20, 10), "id": 50, "image_id": 3})

    change(train, plant)
    (images / "empty.jpg").touch()
    (images / "text.jpg").write_text("no image")
    save(images / "cut.jpg", picture(50), quality=90)
    (images / "cut.jpg").write_bytes((images / "cut.jpg").read_bytes()[:900])
    save(images / "small.png", picture(51)[:, :100])
    save(images / "turned.jpg", picture(52), orientation=6)
    save(images / "id.png", picture(53))
    save(images / "unlisted.png", picture(54))
    (images / "copy.png").write_bytes((images / "1.png").read_bytes())
    near = ImageEnhance.Brightness(Image.fromarray(picture((1, 1))).resize((60, 45))).enhance(1.15)
    near = near.resize(SIZE[::-1])
    save(images / "near.jpg", np.asarray(near), quality=60)

    found = findings(clean, tmp_path, 1)

    def one(what):
        return [("train", what)]

    assert found == {
        (True, "id used twice"): [("train", "image 201"), ("train", "annotation 50")],
        (True, "unknown reference"): [("train", "annotation 50"), ("train", "annotation 51")],
        (True, "image missing"): one("gone.png"),
        (True, "image damaged"): [("train", name) for name in ("empty.jpg", "cut.jpg", "text.jpg")],
        (True, "image of another size"): [("train", "small.png"), ("train", "turned.jpg")],
        (True, "mask outside the image"): [("train", f"2.png, annotation {n}") for n in (52, 54)],
        (True, "mask damaged"): one("2.png, annotation 55"),
        (True, "no mask"): one("2.png, annotation 56"),
        (True, "empty mask"): one("2.png, annotation 57"),
        (False, "tiny mask"): one("2.png, annotation 58"),
        (True, "box unlike its mask"): one("1.png, annotation 59"),
        (True, "object labelled twice"): one("1.png, annotations 3 and 60"),
        (False, "image not listed"): one("unlisted.png"),
        (False, "duplicates in a split"): one("1.png and copy.png"),
        (True, "duplicates across splits"): [("train+val", "train/near.jpg and val/1.png")],
    }
    printed = capsys.readouterr().out
    assert "turned.jpg: the file is 90x120 upright, the json says 120x90: its EXIF orientation 6" in printed
    assert "1.png and copy.png: the same file" in printed
    assert "fault   image damaged             train 3" in printed
    assert "a corner is 15.0 pixels beyond the edge" in printed
    val_only = findings(val, tmp_path, 0)
    assert val_only == {}


def test_classes_that_differ_are_told(clean, tmp_path, capsys):
    change(
        clean / "val", lambda content: content["categories"].reverse() or content["categories"][0].update(name="pear")
    )
    found = findings(clean, tmp_path, 1)
    assert found[True, "other classes"] == [("val", "categories")]
    assert "{'pear': 2, 'pumpkin': 1} against {'pumpkin': 1, 'apple': 2} in train" in capsys.readouterr().out


def test_a_class_named_twice_is_a_fault(clean, tmp_path, capsys):
    change(clean / "train", lambda content: content["categories"].append({"id": 3, "name": "apple"}))
    assert findings(clean, tmp_path, 1)[True, "class named twice"] == [("train", "apple")]
    assert "train: apple: 2 categories have this name" in capsys.readouterr().out


def test_class_balance_is_a_warning_and_strict_makes_it_count(tmp_path, capsys):
    spots = [rectangle(x, y, 8, 8) for x in range(0, 100, 20) for y in range(0, 80, 20)]

    def labels(apples):
        return [[{**spot, "category_id": 1 + (n < apples)} for n, spot in enumerate(spots)]]

    folder = tmp_path / "data"
    write(folder / "train", labels(16), names=("pumpkin", "apple", "pear"))
    write(folder / "val", labels(2), seed=1, names=("pumpkin", "apple", "pear"))
    wanted = {
        (False, "class without instances"): [("train", "pear"), ("val", "pear")],
        (False, "class balance differs"): [("train+val", "pumpkin")],  # 18 apples are too few to tell
    }
    assert findings(folder, tmp_path, 0) == wanted
    assert "pumpkin: 20% of the instances in train, 90% in val" in capsys.readouterr().out
    assert findings(folder, tmp_path, 1, "--strict") == wanted


def test_ten_of_a_kind_are_shown_unless_all_are_asked_for(tmp_path, capsys):
    write(tmp_path / "data", [[rectangle(3 * n, 0, 2, 2) for n in range(25)]], names=["pumpkin"])
    assert main(["check", str(tmp_path / "data")]) == 0
    assert "... and 15 more: --all prints them" in capsys.readouterr().out
    assert main(["check", str(tmp_path / "data"), "--all"]) == 0
    assert "annotation 25: 4 pixels" in capsys.readouterr().out
    assert main(["check", str(tmp_path / "data"), "--tiny", "4", "--strict"]) == 0


@pytest.mark.parametrize("text", ["{", "[]", '{"images": [{}], "annotations": [], "categories": []}'])
def test_what_is_no_data_set_is_one_line(tmp_path, capsys, text):
    for command in (["check"], ["stats"], ["show", "--save", "x.png"], ["split", "--out", str(tmp_path / "out")]):
        assert main([command[0], str(tmp_path), *command[1:]]) == 2
        assert "holds no data set" in capsys.readouterr().err
    (tmp_path / "annotations.json").write_text(text)
    assert main(["check", str(tmp_path)]) == 2
    assert "is not COCO json" in capsys.readouterr().err


@given(st.lists(st.integers(0, 2**256 - 1) | st.integers(0, 15), max_size=8), st.integers(0, 127))
def test_near_pairs_are_all_pairs_that_are_near(prints, near):
    wanted = [
        (a, b, (prints[a] ^ prints[b]).bit_count())
        for a in range(len(prints))
        for b in range(a + 1, len(prints))
        if (prints[a] ^ prints[b]).bit_count() <= near
    ]
    assert list(near_pairs(prints, near)) == wanted


def test_a_picture_too_large_to_decode_is_reported_as_that(clean, tmp_path, monkeypatch):
    save(clean / "val" / "images" / "2.png", np.zeros((200, 200, 3), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 15_000)
    assert findings(clean, tmp_path, 1) == {(True, "image too large"): [("val", "2.png")]}


def test_a_split_of_crowd_regions_only_is_a_fault(tmp_path, capsys):
    write(tmp_path / "train", [[{**rectangle(5, 5, 30, 20), "iscrowd": 1}], []])
    assert main(["check", str(tmp_path)]) == 1
    assert "train: annotations: all 1 labels are marked iscrowd" in capsys.readouterr().out


@pytest.mark.parametrize("box", [["5", "5", "60", "40"], [1e300, 0, 1, 1], "5 5 30 20", [5, 5]])
def test_a_box_of_odd_values_is_a_fault(tmp_path, box, capsys):
    write(tmp_path / "train", [[{**rectangle(5, 5, 30, 20), "bbox": box}], []])
    assert main(["check", str(tmp_path)]) == 1
    assert "box unlike its mask" in capsys.readouterr().out
