"""Rendered data sets: laid out as COCO, the same for a seed however many processes render, all or nothing."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from pumpseg.errors import DatasetError
from pumpseg_train.cli.data import main
from pumpseg_train.synth.dataset import SceneRenderer, write_dataset

SMALL = (128, 96)


def test_same_seed_same_scene_and_another_seed_another():
    first, again, other = (SceneRenderer(seed, SMALL).scene("train", 0) for seed in (1, 1, 2))
    assert first.image.tobytes() == again.image.tobytes()
    assert np.array_equal(first.masks, again.masks)
    assert not np.array_equal(first.image, other.image)
    assert not np.array_equal(first.image, SceneRenderer(1, SMALL).scene("val", 0).image)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "data"
    arguments = ["synth", "--out", str(out), "--count", "4", "--seed", "1", "--size", "128x96"]
    assert main(arguments) == 0
    return out


def test_dataset_is_laid_out_as_coco(dataset):
    assert sorted(path.name for path in dataset.iterdir()) == ["train", "val"]
    assert [path.name for path in dataset.parent.iterdir()] == ["data"]
    total = 0
    for split, count in (("train", 4), ("val", 1)):
        coco = COCO(str(dataset / split / "annotations.json"))
        assert coco.loadCats([1]) == [{"id": 1, "name": "pumpkin"}]
        names = sorted(image["file_name"] for image in coco.imgs.values())
        assert names == sorted(path.name for path in (dataset / split / "images").iterdir())
        assert len(names) == count
        for image in coco.imgs.values():
            picture = cv2.imread(str(dataset / split / "images" / image["file_name"]))
            assert picture.shape == (image["height"], image["width"], 3) == (96, 128, 3)
        for annotation in coco.anns.values():
            mask = coco.annToMask(annotation)
            assert mask.shape == (96, 128)
            assert mask.sum() == annotation["area"]
            assert annotation["iscrowd"] == 0
            assert annotation["bbox"] == coco_mask.toBbox(annotation["segmentation"]).tolist()
        total += len(coco.anns)
    assert total > 0


def test_dataset_is_the_same_for_the_same_seed(dataset, tmp_path):
    write_dataset(tmp_path / "again", 1, 1, seed=1, size=SMALL)
    name = "train/images/synth_1_000000.jpg"
    assert (tmp_path / "again" / name).read_bytes() == (dataset / name).read_bytes()


def test_given_cutouts_and_backgrounds_come_into_the_pictures(tmp_path, blue_photos, green_pumpkins):
    out = tmp_path / "data"
    given = ["--paste-from", str(green_pumpkins), "--backgrounds", str(blue_photos)]
    assert main(["synth", "--out", str(out), "--count", "6", "--seed", "2", "--size", "128x96", *given]) == 0
    coco = COCO(str(out / "train" / "annotations.json"))
    green_inside = green_outside = green_masks = 0
    blue = []
    for image in coco.imgs.values():
        picture = cv2.imread(str(out / "train" / "images" / image["file_name"])).astype(int)
        b, g, r = np.moveaxis(picture, -1, 0)
        green = (g > 1.6 * b + 20) & (g > 1.6 * r + 20)
        inside = np.zeros(green.shape, bool)
        for annotation in coco.imgToAnns[image["id"]]:
            mask = coco.annToMask(annotation).astype(bool)
            inside |= mask
            green_masks += green[mask].mean() > 0.6
        green_inside += np.count_nonzero(green & inside)
        # A pixel more for the lens and JPEG.
        wide = cv2.dilate(inside.astype(np.uint8), np.ones((5, 5))) > 0
        green_outside += np.count_nonzero(green & ~wide)
        blue.append(np.mean((b > 1.3 * g) & (b > 1.3 * r)))
    assert green_masks > 2
    assert green_outside < 0.05 * green_inside
    assert np.median(blue) > 0.3


def test_folder_with_something_in_it_is_refused(dataset, capsys):
    before = sorted(dataset.rglob("*"))
    assert main(["synth", "--out", str(dataset), "--count", "1"]) == 2
    assert "is not an empty folder" in capsys.readouterr().err
    assert sorted(dataset.rglob("*")) == before


def test_empty_folder_is_taken(tmp_path):
    write_dataset(tmp_path, 1, 1, size=(64, 64))
    assert (tmp_path / "val" / "annotations.json").is_file()


def test_the_working_folder_is_filled_and_stays_the_same_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = tmp_path.stat().st_ino
    assert main(["synth", "--out", ".", "--count", "1", "--size", "64x64"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train", "val"]
    assert tmp_path.stat().st_ino == before


def test_a_link_to_a_folder_that_is_yet_to_be_made_leads_to_it(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "place")
    write_dataset(tmp_path / "link", 1, 1, size=(64, 64))
    assert (tmp_path / "place" / "val" / "annotations.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "place"]


def test_interrupted_run_leaves_an_empty_folder_empty(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pumpseg_train.synth.dataset.render_scene", interrupted)
    assert main(["synth", "--out", str(tmp_path), "--count", "1", "--workers", "1"]) == 130
    assert list(tmp_path.iterdir()) == []


def test_interrupted_run_leaves_nothing(tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pumpseg_train.synth.dataset.render_scene", interrupted)
    assert main(["synth", "--out", str(tmp_path / "data"), "--count", "1", "--workers", "1"]) == 130
    assert list(tmp_path.iterdir()) == []
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT")
def test_ctrl_c_ends_the_processes_and_leaves_nothing(tmp_path):
    command = ["synth", "--out", str(tmp_path / "data"), "--count", "500", "--size", "64x64", "--workers", "2"]
    program = "import sys; from pumpseg_train.cli.data import main; sys.exit(main(sys.argv[1:]))"
    running = subprocess.Popen([sys.executable, "-c", program, *command], stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.rglob("*.jpg")):
        assert running.poll() is None
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 130
    assert "interrupted, nothing was written" in errors
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_the_files_do_not_depend_on_the_number_of_processes(dataset, tmp_path):
    for workers in (1, 3):
        write_dataset(tmp_path / str(workers), 4, seed=1, size=SMALL, workers=workers)
        files = sorted(path.relative_to(dataset) for path in dataset.rglob("*.*"))
        assert len(files) == 7
        for file in files:
            assert (tmp_path / str(workers) / file).read_bytes() == (dataset / file).read_bytes()


@pytest.mark.parametrize(
    ("numbers", "message"),
    [({"images": 0}, "each split needs at least 1"), ({"images": 1, "size": (63, 64)}, "at least 64x64")],
)
def test_numbers_out_of_range_are_refused(tmp_path, numbers, message):
    with pytest.raises(DatasetError, match=message):
        write_dataset(tmp_path, **numbers)
