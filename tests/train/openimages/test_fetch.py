"""From class names to a data set, against a local server: counts and json are exact."""

import json

import cv2
import numpy as np
import pytest

from pumpseg_train.cli.data import main

TRAIN = ["0a00000000000001", "0b00000000000002", "1c00000000000003", "fe00000000000005", "ff00000000000006"]
TRAIN_ZIP_0 = "/v5/train-masks/train-masks-0.zip"
TRAIN_BOXES = "/v6/oidv6-train-annotations-bbox.csv"
TRAIN_MASKS = "/v5/train-annotations-object-segmentation.csv"

pytestmark = pytest.mark.usefixtures("quick")


def test_everything_comes(server, command, checked, tmp_path, capsys):
    out = tmp_path / "data"
    assert main(command(server, out)) == 0
    manifest = checked(out, "train", TRAIN, server.files)
    checked(out, "validation", ["0a00000000000011", "3b00000000000012"], server.files)
    checked(out, "test", ["4a00000000000021"], server.files)
    assert manifest["failures"] == {}
    assert manifest["rows read"] == {"boxes": 12, "masks": 9}
    captured = capsys.readouterr()
    assert "train: 5 images, 7 instances, 2 crowd regions" in captured.out
    assert "val: 2 images, 3 instances, 0 crowd regions" in captured.out
    assert "test: 1 image, 1 instance, 0 crowd regions" in captured.out
    assert "images without a usable mask: 1" in captured.out
    assert "rows a second" in captured.err
    # Only what is needed was asked for: no photo without a pumpkin, of every archive but pieces.
    assert not server.asked("2d00000000000004") + server.asked("a700000000000007")
    assert not server.asked("train-masks-5.zip")
    assert all(wanted for path, wanted in server.log if path.endswith(".zip"))


def test_what_is_there_is_not_asked_for_again(server, command, checked, tmp_path):
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    before = (tmp_path / "train" / "annotations.json").read_bytes()
    server.log.clear()
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    assert {path for path, _ in server.log} == {"/v5/classes-segmentation.txt"}
    assert (tmp_path / "train" / "annotations.json").read_bytes() == before
    checked(tmp_path, "train", TRAIN, server.files)


def test_a_lower_limit_is_part_of_a_higher_one(server, command, tmp_path):
    def ids(limit, *more):
        out = tmp_path / f"{limit}{len(more)}"
        assert main(command(server, out, "--splits", "train", "--max-images", str(limit), *more)) == 0
        content = json.loads((out / "train" / "annotations.json").read_text())
        return {image["file_name"] for image in content["images"]}

    two, three = ids(2), ids(3)
    assert (len(two), len(three)) == (2, 3)
    assert two < three
    assert any(ids(2, "--seed", str(seed)) != two for seed in range(1, 3))


@pytest.mark.parametrize(
    ("options", "instances", "crowds"),
    [
        (["--groups", "drop"], 7, 1),
        (["--groups", "keep", "--unmasked", "drop"], 7, 0),
        (["--depictions", "drop"], 6, 2),
        (["--depictions", "crowd"], 6, 3),
        (["--min-iou", "0.5"], 6, 3),
        (["--min-iou", "0.5", "--unmasked", "drop"], 6, 1),
    ],
)
def test_options_treat_groups_depictions_and_bad_masks(server, command, tmp_path, options, instances, crowds):
    assert main(command(server, tmp_path, "--splits", "train", *options)) == 0
    content = json.loads((tmp_path / "train" / "annotations.json").read_text())
    got = [annotation["iscrowd"] for annotation in content["annotations"]]
    assert (got.count(0), got.count(1)) == (instances, crowds)


def test_two_classes_keep_the_order_asked_for(server, command, tmp_path):
    line = command(server, tmp_path, "--splits", "train")
    line[line.index("Pumpkin") : line.index("Pumpkin") + 1] = ["pumpkin", "apple"]
    assert main(line) == 0
    content = json.loads((tmp_path / "train" / "annotations.json").read_text())
    assert [(c["id"], c["name"]) for c in content["categories"]] == [(1, "pumpkin"), (2, "apple")]
    assert [a["category_id"] for a in content["annotations"]].count(2) == 2
    assert len(content["images"]) == 6


@pytest.mark.parametrize(
    ("path", "keep"),
    [
        (TRAIN_BOXES, lambda whole: whole[:-60]),
        (TRAIN_MASKS, lambda whole: whole[: whole.index(b"\n", 400) + 30]),
        (TRAIN_BOXES, lambda whole: whole[: whole.index(b"\n") + 1]),
        (TRAIN_MASKS, lambda whole: whole[:25]),
    ],
    ids=["end of a row", "middle", "header only", "part of the header"],
)
def test_a_truncated_table_is_named_and_nothing_is_written(server, command, checked, tmp_path, capsys, path, keep):
    whole = server.files[path]
    server.files[path] = keep(whole)
    assert main(command(server, tmp_path, "--splits", "train")) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("pumpseg-data: error: ")
    assert path.rsplit("/", 1)[1] in error
    assert "cut short" in error or "has no column" in error
    assert not (tmp_path / "train" / "annotations.json").exists()

    server.files[path] = whole
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    checked(tmp_path, "train", TRAIN, server.files)


def test_a_table_that_was_truncated_on_disk_is_fetched_again(server, command, checked, tmp_path, capsys):
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    cached = tmp_path / ".open-images" / TRAIN_BOXES.rsplit("/", 1)[1]
    cached.write_bytes(cached.read_bytes()[:-40])
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    assert "is cut short" in capsys.readouterr().err
    checked(tmp_path, "train", TRAIN, server.files)


def test_masks_of_another_shape_than_the_photo_are_named(server, command, checked, tmp_path):
    members = server.members(TRAIN_ZIP_0)
    name = next(name for name in members if name.startswith(TRAIN[0]))
    members[name] = cv2.imencode(".png", np.full((100, 100), 255, np.uint8))[1].tobytes()
    server.pack(TRAIN_ZIP_0, members)
    assert main(command(server, tmp_path, "--splits", "train")) == 1
    manifest = checked(tmp_path, "train", TRAIN[1:], server.files)
    assert manifest["failures"][TRAIN[0]] == (
        f"the mask {name} is 100x100, which is not a scaled copy of the image's 64x48"
    )


def test_an_empty_mask_becomes_a_region_to_ignore(server, command, tmp_path, capsys):
    members = server.members(TRAIN_ZIP_0)
    name = next(name for name in members if name.startswith(TRAIN[0]))
    members[name] = cv2.imencode(".png", np.zeros((48, 64), np.uint8))[1].tobytes()
    server.pack(TRAIN_ZIP_0, members)
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    printed = capsys.readouterr().out
    assert "train: 5 images, 6 instances, 3 crowd regions" in printed
    assert "empty masks: 1" in printed


def test_splits_of_other_classes_are_not_mixed(server, command, tmp_path, capsys):
    assert main(command(server, tmp_path)) == 0
    line = command(server, tmp_path, "--splits", "train")
    line.insert(line.index("Pumpkin"), "Apple")
    assert main(line) == 2
    assert "has pumpkin in test, val: request these classes" in capsys.readouterr().err


def test_a_class_without_masks_or_name_is_refused(server, command, tmp_path, capsys):
    line = command(server, tmp_path)
    place = line.index("Pumpkin")
    line[place] = "Pumpkins"
    assert main(line) == 2
    assert "no boxable class 'Pumpkins' among its 3; similar: 'pumpkin'" in capsys.readouterr().err
    line[place] = "Houseplant"
    assert main(line) == 2
    assert "no masks of houseplant, only boxes" in capsys.readouterr().err


def test_somebody_elses_data_set_is_left_alone(server, command, tmp_path, make_split, capsys):
    make_split(tmp_path / "val", [[]])
    assert main(command(server, tmp_path)) == 2
    assert "was not made by this command" in capsys.readouterr().err
    assert server.log == []


def test_a_split_without_the_class_is_left_out(server, command, checked, tmp_path, capsys):
    line = command(server, tmp_path / "apples")
    line[line.index("Pumpkin")] = "Apple"
    assert main(line) == 0
    captured = capsys.readouterr()
    assert "the validation split has no image with a mask of apple that these options accept; it" in captured.err
    assert "train: 2 images" in captured.out
    assert "val:" not in captured.out
    assert not (tmp_path / "apples" / "val").exists()
    manifest = json.loads((tmp_path / "apples" / "manifest.json").read_text())
    assert list(manifest["splits"]) == ["train"]

    assert main([*line, "--splits", "validation", "test"]) == 2
    assert "no image with a mask of apple that these options accept in validation, test" in capsys.readouterr().err


def test_a_split_that_is_there_is_not_passed_over_for_options_that_accept_none_of_it(
    server, command, checked, tmp_path, capsys
):
    assert main(command(server, tmp_path)) == 0
    assert main(command(server, tmp_path, "--splits", "validation", "--min-iou", "1")) == 2
    assert "val was made with others: name another folder" in capsys.readouterr().err
    checked(tmp_path, "validation", ["0a00000000000011", "3b00000000000012"], server.files)


def test_a_mirror_cannot_choose_where_files_go(server, command, tmp_path, capsys):
    server.files[TRAIN_MASKS] = server.files[TRAIN_MASKS].replace(b"0a00000000000001_m05zsy", b"../../evil_m05zsy", 1)
    assert main(command(server, tmp_path / "deep" / "data", "--splits", "train")) == 2
    assert "cannot be the name of an image or a mask" in capsys.readouterr().err
