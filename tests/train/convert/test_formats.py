"""Every format read and written: what goes there and back is the same to the pixel."""

import json
import re
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pumpseg_train.cli.data import main
from pumpseg_train.convert.formats import FORMATS
from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.dataset.labelled_set import Annotation, LabelledSet, Photo
from pumpseg_train.dataset.masks import encode

CLASSES = ("apple", "pumpkin")
LARGE, MIDDLE = (60, 60, 40, 35), (120, 70, 25, 28)


def annotations(labels):
    return tuple(Annotation(CLASSES.index(name) + 1, encode(mask), crowd) for name, crowd, mask in labels)


def there_and_back(source, folder, name):
    """The data set `source` as another format, and that as a data set again; both folders."""
    between, back = folder / name, folder / f"{name}-back"
    assert main(["convert", str(source), "--to", name, "--out", str(between)]) == 0
    classes = read_dataset(source, "train").classes
    # YOLO's own file has the classes in order; the others are given them, which also keeps classes that do not occur.
    named = [] if name == "yolo" else ["--classes", *classes]
    assert main(["convert", str(between), "--from", name, "--out", str(back), *named]) == 0
    return between, back


@pytest.mark.parametrize("name", sorted(FORMATS))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(CLASSES), st.booleans(), arrays(bool, (12, 16)).filter(np.any)), max_size=4))
def test_masks_survive_the_way_there_and_back(name, tmp_path_factory, photo, masks_of, same, labels):
    folder = tmp_path_factory.mktemp("convert")
    if name == "index":  # holds each pixel once
        free, kept = np.ones((12, 16), bool), []
        for class_name, crowd, mask in labels:
            if (mask & free).any() and not (crowd and any(c and n == class_name for n, c, _ in kept)):
                kept.append((class_name, crowd, mask & free))
                free &= ~mask
        labels = kept
    photos = tuple(
        Photo(photo(folder, f"{index}.png"), 16, 12, annotations(some)) for index, some in enumerate([labels, []])
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
    counted = [(written.name_of(x), x.crowd) for x in written.splits["train"][0].annotations]
    assert sorted(counted) == sorted((class_name, crowd) for class_name, crowd, _ in expressed)
    got = [(again.name_of(x), x.crowd, x.mask(16, 12).astype(bool)) for x in again.splits["train"][0].annotations]
    same({"": got}, {"": expressed})
    assert again.splits["train"][1].annotations == ()


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_the_command_goes_there_and_back(name, fruit, tmp_path, capsys, masks_of, same):
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
def test_crowd_regions_are_counted_as_they_are_written(tmp_path, name, capsys, photo, coco):
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
    assert ("note: crowd regions left out because" in said) == left_out
    assert f"train: 1 image, 1 instance, {0 if left_out else 2} crowd regions" in said


@pytest.mark.parametrize("name", ["coco", "via", "labelme", "masks", "index"])
def test_two_folders_of_one_split_are_refused(tmp_path, name, capsys, photo):
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


@pytest.mark.parametrize("name", ["task.zip", "export.json"])
def test_a_zip_is_named_as_one(tmp_path, name, capsys):
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("annotations/instances_default.json", "{}")
    for source_format in FORMATS:
        assert main(["convert", str(tmp_path / name), "--from", source_format, "--out", str(tmp_path / "out")]) == 2
        assert f"{name} is a zip archive: unpack it, and name the folder" in capsys.readouterr().err
    assert main(["check", str(tmp_path / name)]) == 2
    assert "is a zip archive" in capsys.readouterr().err
