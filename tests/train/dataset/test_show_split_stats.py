"""A contact sheet with the masks where they belong, sets divided without leaks, and figures."""

import json
from collections import Counter

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from pumpseg_train.cli.data import main
from pumpseg_train.dataset.annotations import load_image, read_dataset
from pumpseg_train.dataset.raw_files import read_files
from pumpseg_train.dataset.stats import statistics

LARGE, SMALL = (60, 60, 40, 35), (130, 95, 14, 12)


def test_the_sheet_shows_masks_where_the_objects_are(fruit, tmp_path, capsys):
    out = tmp_path / "sheet.png"
    assert main(["show", str(fruit), "--out", str(out), "--columns", "3", "--tiles", "160"]) == 0
    assert "5 of 5 photos" in capsys.readouterr().out
    sheet = cv2.imread(str(out))
    assert sheet.shape == (2 * (160 + 22 + 6) + 6, 3 * 166 + 6, 3)
    # The first tile: 160x120 pixels in the middle of its place, drawn at its own size.
    tile = sheet[6 + 20 : 6 + 140, 6:166].astype(int)
    plain = cv2.imread(str(fruit / "train" / "images" / "0.png")).astype(int)
    changed = np.abs(tile - plain).sum(axis=2) > 20
    masks = [a.mask(160, 120).astype(bool) for a in read_dataset(fruit, "train").photos[0].annotations]
    inside = masks[0] | masks[1]
    grown = cv2.dilate(inside.astype(np.uint8), np.ones((7, 7))) > 0
    assert changed[inside].mean() > 0.98
    assert changed[~grown].mean() < 0.01
    # The rim of a mask lies where the mask ends, to the pixel or so.
    rims = {
        mask.tobytes(): cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3))) for mask in masks
    }
    assert all(changed[rim > 0].mean() > 0.9 for rim in rims.values())


def test_the_sheet_of_named_files_and_of_one_split(fruit, tmp_path, capsys):
    out = tmp_path / "sheet.jpg"
    line = ["show", str(fruit), "--out", str(out)]
    assert main([*line, "--split", "val", "--images", "1.png", "0.png"]) == 0
    assert "2 of 2 photos" in capsys.readouterr().out
    assert main([*line, "--count", "1", "--split", "train"]) == 0
    assert "1 of 3 photos" in capsys.readouterr().out
    for wrong, message in (
        (["--split", "test"], "has no split test"),
        (["--images", "9.png"], "has no image 9.png"),
        (["--count", "0"], "--count 0"),
        (["--tiles", "8"], "--tiles 8"),
    ):
        assert main([*line, *wrong]) == 2
        assert message in capsys.readouterr().err
    assert main(["show", str(fruit), "--out", str(tmp_path / "sheet.txt")]) == 2
    assert "ends with .png or .jpg" in capsys.readouterr().err


def test_crowds_and_classes_are_named_on_the_sheet(tmp_path, make_split):
    folder = make_split(tmp_path / "in", [[(0, LARGE), (1, SMALL)]], classes=("apple", "pumpkin"))
    line = ["show", str(folder), "--tiles", "400", "--out"]
    assert main([*line, str(tmp_path / "a.png")]) == 0
    content = json.loads((folder / "annotations.json").read_text())
    content["annotations"][0]["iscrowd"] = 1
    (folder / "annotations.json").write_text(json.dumps(content))
    assert main([*line, str(tmp_path / "b.png")]) == 0
    before, after = (cv2.imread(str(tmp_path / name)).astype(int) for name in ("a.png", "b.png"))
    rows, columns = np.nonzero(np.abs(before - after).sum(axis=2) > 60)
    # Only the tag of that one, above it, and the caption differ.
    tag = rows < 300
    assert tag.any()
    assert columns[tag].max() < 330


# --- split ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def flat(tmp_path):
    """40 photos in one folder: two classes, one of them rare, every fourth photo a copy of the one before, darker."""
    folder = tmp_path / "in"
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for index in range(40):
        seed = index - 1 if index % 4 == 3 else index
        coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, (120, 90), interpolation=cv2.INTER_CUBIC) * (0.8 if seed != index else 1.0)
        name = f"scene{index // 8}_{index}.png"
        cv2.imwrite(str(folder / "images" / name), picture)
        images.append({"id": 7 * index, "file_name": name, "width": 120, "height": 90, "licence": "mine"})
        for n in range(1 + index % 3):
            polygon = [[10 * n, 10, 10 * n + 8, 10, 10 * n + 8, 18, 10 * n, 18]]
            category = 4 if index % 10 == 0 else 2
            more = {"bbox": [10 * n, 10, 8, 8], "area": 64, "iscrowd": int(n == 2), "quality": "good"}
            ids = {"id": len(annotations), "image_id": 7 * index, "category_id": category}
            annotations.append({**ids, "segmentation": polygon, **more})
    categories = [{"id": 4, "name": "rare"}, {"id": 2, "name": "common"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def names(out):
    return {split.name: [image["file_name"] for image in split.images] for split in read_files(out)}


def test_a_flat_set_is_divided_by_the_shares_without_leaks(flat, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["split", str(flat), "--out", str(out), "--val", "0.25", "--test", "0.25"]) == 0
    parts = names(out)
    assert list(parts) == ["train", "val", "test"]
    assert sorted(name for part in parts.values() for name in part) == sorted(names(flat)["in"])
    assert {split: len(part) for split, part in parts.items()} == {"train": 20, "val": 10, "test": 10}
    by_number = {int(name.split("_")[1][:-4]): split for split, part in parts.items() for name in part}
    assert all(by_number[index] == by_number[index - 1] for index in range(3, 40, 4))
    assert main(["check", str(out)]) == 0
    assert "0 faults" in capsys.readouterr().out
    rare = Counter()
    for split in parts:
        coco = COCO(str(out / split / "annotations.json"))
        assert [(c["id"], c["name"]) for c in coco.dataset["categories"]] == [(1, "common"), (2, "rare")]
        rare[split] = sum(annotation["category_id"] == 2 for annotation in coco.anns.values())
        # What else the json knows stays with its image and its annotation.
        assert all(image["licence"] == "mine" for image in coco.imgs.values())
        assert all(annotation["quality"] == "good" for annotation in coco.anns.values())
        for image in coco.imgs.values():
            index = int(image["file_name"].split("_")[1][:-4])
            assert len(coco.imgToAnns[image["id"]]) == 1 + index % 3
            assert {a["category_id"] for a in coco.imgToAnns[image["id"]]} == {2 if index % 10 == 0 else 1}
    assert min(rare.values()) >= 1


@pytest.mark.parametrize("options", [["--val", "0.02"], ["--val", "0.02", "--test", "0.02"]])
def test_no_split_stays_empty(flat, tmp_path, options):
    assert main(["split", str(flat), "--out", str(tmp_path / "out"), *options]) == 0
    assert all(names(tmp_path / "out").values())


def test_the_sheet_does_not_take_the_place_of_a_photo(fruit, capsys):
    photo = next((fruit / "val" / "images").iterdir())
    before = photo.read_bytes()
    assert main(["show", str(fruit), "--out", str(photo)]) == 2
    assert "is an input" in capsys.readouterr().err
    assert photo.read_bytes() == before


def test_the_sheet_does_not_take_the_place_of_a_photo_of_another_split(fruit, capsys):
    photo = next((fruit / "val" / "images").iterdir())
    assert main(["show", str(fruit), "--split", "train", "--out", str(photo)]) == 2
    assert "is an input" in capsys.readouterr().err


def test_the_sheet_is_refused_before_it_is_drawn_where_it_cannot_be_written(fruit, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("pumpseg_train.dataset.contact_sheet.contact_sheet", None)
    assert main(["show", str(fruit), "--out", str(tmp_path / "none" / "sheet.png")]) == 2
    assert "sheet.png: No such file" in capsys.readouterr().err


def test_the_sheet_keeps_no_photo_in_memory(fruit, tmp_path):
    load_image.cache_clear()
    assert main(["show", str(fruit), "--out", str(tmp_path / "sheet.png")]) == 0
    assert load_image.cache_info().currsize == 0


def test_a_division_is_refused_before_the_photos_are_compared(flat, monkeypatch, capsys):
    monkeypatch.setattr("pumpseg_train.dataset.split.examine", None)
    assert main(["split", str(flat), "--out", str(flat)]) == 2
    assert "is not an empty folder" in capsys.readouterr().err
    assert main(["split", str(flat), "--out", str(flat / "out"), "--group", "("]) == 2
    assert "is no regular expression" in capsys.readouterr().err


def edit(folder, change):
    path = folder / "annotations.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_what_the_json_says_of_itself_and_its_classes_stays(flat, tmp_path):
    said = {"info": {"description": "mine", "year": 2024}, "licenses": [{"id": 3, "name": "CC0"}], "note": ["a"]}
    edit(flat, lambda content: content.update(said))
    edit(flat, lambda content: content["categories"][0].update(supercategory="fruit"))
    assert main(["split", str(flat), "--out", str(tmp_path / "out")]) == 0
    for split in ("train", "val"):
        content = json.loads((tmp_path / "out" / split / "annotations.json").read_text())
        assert {key: content[key] for key in said} == said
        assert content["categories"] == [
            {"id": 1, "name": "common"},
            {"id": 2, "name": "rare", "supercategory": "fruit"},
        ]


def test_splits_of_other_origin_and_licences_are_told_apart(tmp_path, make_split):
    for split, fruits, said, licences in (
        ("train", [[(0, LARGE)], [(0, SMALL)]], "mine", ["CC BY", "CC0"]),
        ("val", [[(0, SMALL), (0, LARGE)]], "yours", ["CC0", "GPL"]),
    ):
        folder = make_split(tmp_path / "in" / split, fruits)
        edit(
            folder,
            lambda content, said=said, licences=licences: content.update(
                info={"description": said, "version": "1"},
                licenses=[{"id": number, "name": name} for number, name in enumerate(licences)],
                images=[image | {"license": number, "from": said} for number, image in enumerate(content["images"])],
            ),
        )
    line = ["split", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--val", "0.5"]
    assert main(line) == 0
    seen = set()
    for split in ("train", "val"):
        content = json.loads((tmp_path / "out" / split / "annotations.json").read_text())
        assert content["info"] == {"description": "mine; yours", "version": "1"}
        names = {licence["id"]: licence["name"] for licence in content["licenses"]}
        assert names == {0: "CC BY", 1: "CC0", 2: "GPL"}
        seen |= {(image["from"], names[image["license"]]) for image in content["images"]}
    assert seen == {("mine", "CC BY"), ("mine", "CC0"), ("yours", "CC0")}


def test_the_same_seed_divides_alike_and_groups_stay_together(flat, tmp_path):
    line = ["split", str(flat), "--val", "0.4"]
    for place, more in (("a", []), ("b", []), ("c", ["--seed", "1"]), ("d", ["--group", r"^(scene\d)_", "--link"])):
        assert main([*line, "--out", str(tmp_path / place), *more]) == 0
    assert names(tmp_path / "a") == names(tmp_path / "b") != names(tmp_path / "c")
    scenes = {split: {name[:6] for name in part} for split, part in names(tmp_path / "d").items()}
    assert not scenes["train"] & scenes["val"]
    assert {split: len(part) for split, part in scenes.items()} == {"train": 3, "val": 2}
    linked = tmp_path / "d" / "val" / "images" / names(tmp_path / "d")["val"][0]
    assert linked.samefile(flat / "images" / linked.name)


def test_splits_of_a_set_are_pooled_and_names_kept_apart(fruit, tmp_path):
    assert main(["split", str(fruit), "--out", str(tmp_path / "out"), "--val", "0.4"]) == 0
    parts = names(tmp_path / "out")
    assert {split: len(part) for split, part in parts.items()} == {"train": 3, "val": 2}
    assert all(len(set(part)) == len(part) for part in parts.values())
    total = sum(len(split.annotations) for split in read_files(tmp_path / "out"))
    assert total == sum(len(split.annotations) for split in read_files(fruit))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--val", "0.6", "--test", "0.5"], "--val 0.6 --test 0.5"),
        (["--val", "-0.1"], "--val -0.1"),
        (["--val", "nan"], "--val nan"),
        (["--val", "0.7", "--test", "0.3"], "--val 0.7 --test 0.3"),
        (["--group", "("], "is no regular expression"),
        (["--group", "."], "too few for 2 splits"),
    ],
)
def test_a_division_that_cannot_be_is_one_line(flat, tmp_path, options, message, capsys):
    assert main(["split", str(flat), "--out", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# --- stats ----------------------------------------------------------------------------------------------------------


def test_statistics(flat, tmp_path, capsys):
    out = tmp_path / "stats.json"
    assert main(["stats", str(flat), "--json", str(out)]) == 0
    figures = json.loads(out.read_text())["in"]
    assert figures == statistics(read_files(flat)[0])
    assert (figures["images"], figures["instances"], figures["crowd regions"]) == (40, 66, 13)
    assert figures["classes"] == {"rare": 6, "common": 60}
    assert figures["sizes"] == {"small": 66, "medium": 0, "large": 0}
    assert figures["width"] == {"min": 120, "median": 120, "mean": 120, "max": 120}
    assert figures["instances an image"] == {"min": 1, "median": 2, "mean": 1.65, "max": 2}
    assert figures["share of the image"]["median"] == pytest.approx(64 / 120 / 90, abs=1e-4)
    assert "rare 6  common 60" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["check", "stats"])
def test_figures_and_findings_are_written_over_nothing_that_is_read(command, fruit, capsys):
    for name in ("train/annotations.json", "val/annotations.json", "val/images/0.png"):
        before = (fruit / name).read_bytes()
        assert main([command, str(fruit), "--json", str(fruit / name)]) == 2
        assert "is an input" in capsys.readouterr().err
        assert (fruit / name).read_bytes() == before


@pytest.mark.parametrize("command", ["check", "stats"])
def test_a_json_that_cannot_be_written_is_told_before_the_work(command, fruit, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(f"pumpseg_train.inspect.{command}.{'check' if command == 'check' else 'statistics'}", None)
    assert main([command, str(fruit), "--json", str(tmp_path / "none" / "x.json")]) == 2
    assert "x.json: No such file" in capsys.readouterr().err


def test_statistics_of_a_broken_set_point_to_check(flat, capsys):
    content = json.loads((flat / "annotations.json").read_text())
    content["annotations"][3]["segmentation"] = {"size": [90, 120]}
    (flat / "annotations.json").write_text(json.dumps(content))
    assert main(["stats", str(flat)]) == 2
    assert "annotation 3 cannot be read" in capsys.readouterr().err
