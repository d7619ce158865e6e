"""A contact sheet with the masks where they belong."""

import itertools
import json

import cv2
import numpy as np
import pytest

from pumpseg_train.cli.data import main
from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.dataset.photo_file import load_image

LARGE, SMALL = (60, 60, 40, 35), (130, 95, 14, 12)


def test_the_sheet_shows_masks_where_the_objects_are(fruit, tmp_path, capsys):
    out = tmp_path / "sheet.png"
    assert main(["show", str(fruit), "--save", str(out), "--columns", "3", "--side", "160"]) == 0
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


def test_crowds_and_classes_are_named_on_the_sheet(tmp_path, make_split):
    folder = make_split(tmp_path / "in", [[(0, LARGE), (1, SMALL)]], classes=("apple", "pumpkin"))
    line = ["show", str(folder), "--side", "400", "--save"]
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


def test_the_sheet_keeps_no_photo_in_memory(fruit, tmp_path):
    load_image.cache_clear()
    assert main(["show", str(fruit), "--save", str(tmp_path / "sheet.png")]) == 0
    assert load_image.cache_info().currsize == 0


def test_colours_labels_and_contours_are_drawn_as_asked(tmp_path, make_split):
    folder = make_split(tmp_path / "in", [[(0, LARGE), (0, SMALL)]], classes=("apple", "pumpkin"))
    sheets = {}
    for options in ((), ("--color", "class"), ("--color", "instance"), ("--no-labels",), ("--masks-only",)):
        out = tmp_path / f"sheet{''.join(options)}.png"
        assert main(["show", str(folder), "--save", str(out), *options]) == 0
        sheets[options] = cv2.imread(str(out)).astype(int)

    def changed(one, other):
        return int((np.abs(sheets[one] - sheets[other]).sum(axis=2) > 0).sum())

    assert changed((), ("--color", "class")) == 0  # two classes: by class unless asked for
    assert changed((), ("--color", "instance")) > 100
    assert 0 < changed((), ("--no-labels",)) < changed((), ("--masks-only",))


@pytest.fixture
def caption(tmp_path, make_split):
    """The caption of a sheet of one photo with this name, as bool (rows, columns) of its ink."""

    def drawn(name):
        folder = make_split(tmp_path / f"set{len(list(tmp_path.iterdir()))}", [[(0, SMALL)]])
        (photo,) = (folder / "images").iterdir()
        photo.rename(folder / "images" / name)
        labels = folder / "annotations.json"
        labels.write_text(labels.read_text(encoding="utf-8").replace(photo.name, name), encoding="utf-8")
        out = tmp_path / "sheet.png"
        assert main(["show", str(folder), "--save", str(out), "--side", "160"]) == 0
        sheet = cv2.imread(str(out))
        return sheet[sheet.shape[0] - 6 - 22 :, 6:].max(axis=2) < 150

    return drawn


@pytest.mark.skipif(cv2.__version__.startswith("4."), reason="OpenCV 4 draws Latin letters only")
def test_names_in_other_scripts_are_drawn(caption):
    names = [caption(f"{name}.png") for name in ("??", "\u5357\u74dc", "\ud638\ubc15", "\u0442\u044b")]
    assert all(name.any() for name in names)
    for first, second in itertools.combinations(names, 2):
        assert (first != second).any()


def test_of_a_long_name_the_end_is_drawn_inside_the_sheet(caption):
    short, *long = (caption(f"{name}01.png") for name in ("", "a" * 100, "m" * 100))
    for name in long:
        assert not name[:, 160:].any()
        ink = [np.flatnonzero(drawn.any(axis=0)).max() for drawn in (short, name)]
        assert 140 < ink[1] < 160
        assert (short[:, ink[0] - 30 : ink[0]] == name[:, ink[1] - 30 : ink[1]]).mean() > 0.95
