"""pumpseg-data open-images against a local server, good and bad: counts and json are exact, failures have names."""

import json
import signal
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest

from pumpseg_train.cli.data import main

TRAIN = ["0a00000000000001", "0b00000000000002", "1c00000000000003", "fe00000000000005", "ff00000000000006"]
TRAIN_ZIP_0 = "/v5/train-masks/train-masks-0.zip"
TRAIN_BOXES, TRAIN_MASKS = "/v6/oidv6-train-annotations-bbox.csv", "/v5/train-annotations-object-segmentation.csv"

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
    assert "test: 1 images, 1 instances, 0 crowd regions" in captured.out
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
        assert main(command(server, out, "--splits", "train", "--limit", str(limit), *more)) == 0
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


# --- what can go wrong ----------------------------------------------------------------------------------------------


def test_a_photo_that_is_gone_is_named_and_left_out(server, command, checked, tmp_path, capsys):
    kept = server.files.pop(f"/images/train/{TRAIN[1]}.jpg")
    assert main(command(server, tmp_path, "--splits", "train")) == 1
    rest = [image_id for image_id in TRAIN if image_id != TRAIN[1]]
    manifest = checked(tmp_path, "train", rest, server.files)
    assert list(manifest["failures"]) == [TRAIN[1]]
    captured = capsys.readouterr()
    assert f"{TRAIN[1]}: {server.url}/images/train/{TRAIN[1]}.jpg: the server answers 404" in captured.out
    assert "1 images are missing" in captured.out
    assert len(server.asked(TRAIN[1])) == 1  # 404 is not tried again

    server.files[f"/images/train/{TRAIN[1]}.jpg"] = kept
    server.log.clear()
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    assert server.asked("/images/") == [f"/images/train/{TRAIN[1]}.jpg"]
    checked(tmp_path, "train", TRAIN, server.files)


@pytest.mark.parametrize("kind", ["empty", "cut short", "no image"])
def test_a_photo_that_does_not_decode_is_named(server, command, checked, tmp_path, capsys, kind):
    path = f"/images/train/{TRAIN[0]}.jpg"
    whole = server.files[path]
    server.files[path] = {"empty": b"", "cut short": whole[: len(whole) * 2 // 3], "no image": b"<html>oops</html>"}[
        kind
    ]
    assert main(command(server, tmp_path, "--splits", "train")) == 1
    checked(tmp_path, "train", TRAIN[1:], server.files)
    assert f"{TRAIN[0]}.jpg is {'empty' if kind == 'empty' else 'damaged'}" in capsys.readouterr().out
    assert len(server.asked(path)) == 2
    assert not (tmp_path / "train" / "images" / f"{TRAIN[0]}.jpg").exists()


def test_a_photo_that_was_damaged_on_disk_is_fetched_again(server, command, checked, tmp_path, capsys):
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    cut, other = (tmp_path / "train" / "images" / f"{image_id}.jpg" for image_id in TRAIN[:2])
    cut.write_bytes(cut.read_bytes()[:400])
    other.write_bytes((tmp_path / "train" / "images" / f"{TRAIN[2]}.jpg").read_bytes())
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    checked(tmp_path, "train", TRAIN, server.files)
    error = capsys.readouterr().err
    assert f"{TRAIN[0]}.jpg is damaged" in error
    assert f"{TRAIN[1]}.jpg is not the file that the manifest tells of" in error


def test_a_truncated_archive_is_named_and_its_images_left_out(server, command, checked, tmp_path, capsys):
    whole = server.files[TRAIN_ZIP_0]
    server.files[TRAIN_ZIP_0] = whole[: len(whole) // 2]
    assert main(command(server, tmp_path, "--splits", "train")) == 1
    manifest = checked(tmp_path, "train", TRAIN[2:], server.files)
    assert set(manifest["failures"]) == set(TRAIN[:2])
    assert "train-masks-0.zip is cut short or damaged" in manifest["failures"][TRAIN[0]]
    assert "train-masks-0.zip is cut short or damaged" in capsys.readouterr().out

    server.files[TRAIN_ZIP_0] = whole
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    checked(tmp_path, "train", TRAIN, server.files)


def test_a_damaged_member_costs_its_own_image_only(server, command, checked, tmp_path):
    name = next(name for name in server.members(TRAIN_ZIP_0) if name.startswith(TRAIN[1]))
    content = bytearray(server.files[TRAIN_ZIP_0])
    place = content.index(name.encode()) + len(name) + 20
    content[place] ^= 0xFF
    server.files[TRAIN_ZIP_0] = bytes(content)
    assert main(command(server, tmp_path, "--splits", "train")) == 1
    manifest = checked(tmp_path, "train", [i for i in TRAIN if i != TRAIN[1]], server.files)
    assert name in manifest["failures"][TRAIN[1]]


def test_a_mask_that_the_archive_lacks_is_named(server, command, checked, tmp_path):
    members = server.members(TRAIN_ZIP_0)
    name = next(name for name in members if name.startswith(TRAIN[0]))
    del members[name]
    server.pack(TRAIN_ZIP_0, members)
    assert main(command(server, tmp_path, "--splits", "train")) == 1
    manifest = checked(tmp_path, "train", TRAIN[1:], server.files)
    assert manifest["failures"][TRAIN[0]] == f"train-masks-0.zip has no {name}"


def test_an_archive_that_is_gone_is_named(server, command, checked, tmp_path):
    del server.files["/v5/train-masks/train-masks-1.zip"]
    assert main(command(server, tmp_path, "--splits", "train")) == 1
    manifest = checked(tmp_path, "train", [i for i in TRAIN if i[0] != "1"], server.files)
    assert "train-masks-1.zip: the server answers 404" in manifest["failures"][TRAIN[2]]


def test_without_ranges_whole_archives_come(server, command, checked, tmp_path, capsys):
    server.ranges = False
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    checked(tmp_path, "train", TRAIN, server.files)
    assert "train-masks-0.zip is downloaded as a whole: the server sends no ranges" in capsys.readouterr().err
    assert not list((tmp_path / ".open-images").rglob("*.zip"))


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
        f"the mask {name} is 100x100, which is no scaled copy of the image's 64x48"
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


def test_a_server_that_drops_connections(server, command, checked, tmp_path):
    server.drops = {TRAIN_BOXES: 150, TRAIN_MASKS: 200, "/v5/class-descriptions-boxable.csv": 20}
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    checked(tmp_path, "train", TRAIN, server.files)
    size = len(server.files[TRAIN_BOXES])
    ranges = [wanted for path, wanted in server.log if path == TRAIN_BOXES]
    assert ranges == [None, *(f"bytes={start}-" for start in range(150, size, 150))]


def test_a_table_that_breaks_off_without_ranges_is_named(server, command, tmp_path, capsys):
    server.ranges, server.drops = False, {TRAIN_BOXES: 150}
    assert main(command(server, tmp_path, "--splits", "train")) == 2
    assert "150 bytes read" in capsys.readouterr().err


def test_every_second_answer_breaks_off(server, command, checked, tmp_path):
    server.flaky = ""
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    checked(tmp_path, "train", TRAIN, server.files)


def test_an_archive_most_of_which_is_needed_comes_as_a_whole(server, command, checked, tmp_path, capsys, monkeypatch):
    from pumpseg_train.openimages import archives

    monkeypatch.setattr(archives, "_MAX_MEMBERS", 2)
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    checked(tmp_path, "train", TRAIN, server.files)
    error = capsys.readouterr().err
    assert "train-masks-0.zip is downloaded as a whole: 3 of its 4 members are needed" in error
    assert "train-masks-1.zip is downloaded" not in error


def test_splits_of_other_classes_are_not_mixed(server, command, tmp_path, capsys):
    assert main(command(server, tmp_path)) == 0
    line = command(server, tmp_path, "--splits", "train")
    line.insert(line.index("Pumpkin"), "Apple")
    assert main(line) == 2
    assert "has pumpkin in test, val: ask for these classes" in capsys.readouterr().err


def test_a_photo_and_an_archive_that_always_break_off_are_named(server, command, checked, tmp_path):
    server.drops = {f"/images/train/{TRAIN[3]}.jpg": 300, TRAIN_ZIP_0: 100}
    assert main(command(server, tmp_path, "--splits", "train")) == 1
    manifest = checked(tmp_path, "train", [TRAIN[2], TRAIN[4]], server.files)
    assert set(manifest["failures"]) == {TRAIN[0], TRAIN[1], TRAIN[3]}
    assert "after 2 retries" in manifest["failures"][TRAIN[3]]
    server.drops.clear()
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    checked(tmp_path, "train", TRAIN, server.files)


def test_errors_that_pass_are_waited_for(server, command, checked, tmp_path):
    server.errors = {path: [503, 429] for path in (TRAIN_BOXES, TRAIN_ZIP_0, f"/images/train/{TRAIN[0]}.jpg")}
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    checked(tmp_path, "train", TRAIN, server.files)


def test_a_table_with_the_wrong_md5_is_refused(server, command, checked, tmp_path, capsys):
    server.hashes = True
    assert main(command(server, tmp_path / "good", "--splits", "train")) == 0
    checked(tmp_path / "good", "train", TRAIN, server.files)

    server.md5 = {TRAIN_BOXES: "AAAAAAAAAAAAAAAAAAAAAA=="}
    assert main(command(server, tmp_path / "bad", "--splits", "train")) == 2
    assert "the MD5 of what came is" in capsys.readouterr().err


def test_no_server_is_one_line(server, command, tmp_path, capsys):
    line = command(server, tmp_path)
    line[line.index("--annotations-url") + 1] = "http://127.0.0.1:9"
    assert main(line) == 2
    error = capsys.readouterr().err.splitlines()
    assert "after 2 retries" in error[-1]
    assert "Traceback" not in "".join(error)


def test_a_class_without_masks_or_name_is_refused(server, command, tmp_path, capsys):
    line = command(server, tmp_path)
    place = line.index("Pumpkin")
    line[place] = "Pumpkins"
    assert main(line) == 2
    assert "no boxable class 'Pumpkins' among its 3; near it are 'pumpkin'" in capsys.readouterr().err
    line[place] = "Houseplant"
    assert main(line) == 2
    assert "no masks of houseplant, only boxes" in capsys.readouterr().err


def test_somebody_elses_data_set_is_left_alone(server, command, tmp_path, make_split, capsys):
    make_split(tmp_path / "val", [[]])
    assert main(command(server, tmp_path)) == 2
    assert "was not made by this command" in capsys.readouterr().err
    assert server.log == []


@pytest.mark.parametrize(
    "options", [["--limit", "0"], ["--jobs", "0"], ["--retries", "-1"], ["--timeout", "0"], ["--min-iou", "2"]]
)
def test_numbers_out_of_range_are_refused(server, command, tmp_path, options, capsys):
    assert main(command(server, tmp_path, *options)) == 2
    assert options[0] in capsys.readouterr().err


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


# --- ended half-way -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_ended_half_way_and_resumed(server, command, checked, tmp_path, how):
    server.gate, server.open_for = threading.Event(), 3
    line = command(server, tmp_path, "--splits", "train", "--jobs", "1", "--timeout", "5")
    process = subprocess.Popen(
        [sys.executable, "-m", "pumpseg_train.cli.data", *line], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while len(server.asked("/images/")) <= server.open_for and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(how)
    if how == signal.SIGINT:
        time.sleep(1)  # until it has taken notice
        server.gate.set()
    _, error = process.communicate(timeout=60)
    server.gate.set()
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert "Traceback" not in error
    assert not (tmp_path / "train" / "annotations.json").exists()
    there = {path.stem for path in (tmp_path / "train" / "images").glob("[!.]*")}
    assert 3 <= len(there) < len(TRAIN)

    server.gate = None
    server.log.clear()
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    checked(tmp_path, "train", TRAIN, server.files)
    assert {path[-20:-4] for path in server.asked("/images/")} == set(TRAIN) - there
    assert not server.asked("bbox.csv")


def test_a_table_goes_on_where_an_earlier_run_was_killed(server, command, checked, tmp_path):
    work = tmp_path / ".open-images"
    # The first answer breaks off after 500 bytes, then the server is gone for good.
    server.drops = {TRAIN_BOXES: 500}
    server.later_errors = {TRAIN_BOXES: 503}
    assert main(command(server, tmp_path, "--splits", "train")) == 2
    part = work / (TRAIN_BOXES.rsplit("/", 1)[1] + ".part")
    assert part.read_bytes() == server.files[TRAIN_BOXES][:500]

    server.drops, server.later_errors, server.log = {}, {}, []
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    assert [wanted for path, wanted in server.log if path == TRAIN_BOXES] == ["bytes=500-"]
    checked(tmp_path, "train", TRAIN, server.files)


def test_a_table_that_changed_on_the_server_starts_over(server, command, checked, tmp_path):
    name = TRAIN_BOXES.rsplit("/", 1)[1]
    work = tmp_path / ".open-images"
    work.mkdir()
    (work / f"{name}.part").write_bytes(b"something older")
    about = {"size": 999, "md5": None, "validator": '"older"'}
    (work / f"{name}.part.json").write_text(json.dumps(about))
    assert main(command(server, tmp_path, "--splits", "train")) == 0
    checked(tmp_path, "train", TRAIN, server.files)
