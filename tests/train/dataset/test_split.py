"""Sets are divided without leaks, by the shares, the same way for the same seed."""

from collections import Counter

import pytest
from pycocotools.coco import COCO

from pumpseg_train.cli.data import main
from pumpseg_train.dataset.annotations import read_splits


def names(out):
    return {split: [photo.path.name for photo in photos] for split, photos in read_splits(out).splits.items()}


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
    out, before = read_splits(tmp_path / "out"), read_splits(fruit)
    assert sum(len(photo.annotations) for photo in out.photos) == sum(len(photo.annotations) for photo in before.photos)


def test_sizes_that_the_json_lacks_are_written(flat, tmp_path, edit_json):
    edit_json(flat, lambda content: content["images"][0].pop("width"))
    assert main(["split", str(flat), "--out", str(tmp_path / "out")]) == 0
    assert {photo.record["width"] for photo in read_splits(tmp_path / "out").photos} == {120}
