"""Folders of splits by their names, and labels made to fit the upright photo."""

import pytest

from pumpseg.errors import DatasetError
from pumpseg_train.convert.source import Reading, images_in, listed_classes, only_class, split_folders, split_of
from pumpseg_train.dataset.labelled_set import Annotation

SQUARE = [[1.0, 1.0, 5.0, 1.0, 5.0, 5.0, 1.0, 5.0]]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("train2017", "train"),
        ("val_2", "val"),
        ("valid", "val"),
        ("validation", "val"),
        ("testing", "test"),
        ("minival", None),
        ("images", None),
    ],
)
def test_names_of_splits(name, split):
    assert split_of(name) == split


def test_folders_named_like_splits_or_the_source_itself(tmp_path):
    assert split_folders(tmp_path, "val") == {"val": tmp_path}
    for name in ("test", "valid", "notes"):
        (tmp_path / name).mkdir()
    assert split_folders(tmp_path, "train") == {"val": tmp_path / "valid", "test": tmp_path / "test"}
    (tmp_path / "val").mkdir()
    with pytest.raises(DatasetError, match="val and valid both mean val"):
        split_folders(tmp_path, "train")
    with pytest.raises(DatasetError, match="nowhere is not a folder"):
        split_folders(tmp_path / "nowhere", "train")


def test_images_are_those_directly_in_the_folder(tmp_path, photo):
    photo(tmp_path, "b.png")
    photo(tmp_path / "deep", "a.png")
    (tmp_path / "notes.txt").touch()
    assert images_in(tmp_path) == [tmp_path / "b.png"]
    assert images_in(tmp_path / "nowhere") == []


def test_labels_without_a_class_need_exactly_one():
    assert only_class(["pumpkin"], "these labels") == "pumpkin"
    for classes in ([], ["a", "b"]):
        with pytest.raises(DatasetError, match="these labels name no class: give it with --classes NAME"):
            only_class(classes, "these labels")


def test_what_does_not_fit_is_clipped_or_left_out_and_counted(tmp_path, photo):
    path = photo(tmp_path, "a.png", (8, 8))
    reading = Reading()
    reading.begin("train")
    outside = [[20.0, 1.0, 30.0, 1.0, 30.0, 5.0]]
    beyond = [[4.0, 1.0, 14.0, 1.0, 14.0, 5.0, 4.0, 5.0]]
    class_id = reading.class_id("pumpkin")
    reading.add(path, [Annotation(class_id, segmentation) for segmentation in (SQUARE, outside, beyond)])
    found = reading.finish()
    assert (found.classes, found.notes) == (
        ("pumpkin",),
        (
            "polygons clipped to their photo: 2, the first in a.png",
            "labels left out because they have no pixel: 1, the first in a.png",
        ),
    )
    assert [int(annotation.mask(8, 8).sum()) for annotation in found.photos[0].annotations] == [16, 16]


def test_a_set_without_photos_is_refused():
    reading = Reading()
    reading.begin("train")
    with pytest.raises(DatasetError, match="there are no labelled photos"):
        reading.finish()


def test_classes_may_be_listed_in_a_file(tmp_path):
    assert listed_classes(tmp_path) == []
    (tmp_path / "obj.names").write_text("b\n\n a \n")
    assert listed_classes(tmp_path) == ["b", "a"]


def test_a_set_of_labels_without_a_mask_only_is_refused(tmp_path, photo):
    reading = Reading()
    reading.begin("train")
    reading.leave_out("boxes left out", "a.txt", "flat")
    reading.add(photo(tmp_path, "a.png", (8, 8)), [])
    with pytest.raises(DatasetError, match=r"none of the labels has a mask: boxes left out: 1 \(1 flat\), the"):
        reading.finish()
    reading.count("odd photos", "a.png")
    reading.add(tmp_path / "a.png", [Annotation(reading.class_id("pumpkin"), SQUARE)])
    assert reading.finish().notes == (
        "boxes left out: 1 (1 flat), the first in a.txt",
        "odd photos: 1, the first in a.png",
    )


@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".png"])
@pytest.mark.parametrize("size", [(40, 50), (50, 40)], ids=["upright", "as stored"])
def test_labels_of_a_turned_photo_fit_it_upright(tmp_path, photo, suffix, size):
    path = photo(tmp_path, f"a{suffix}", (40, 50), orientation=6)
    square = [0.0, 0.0, 10.0, 0.0, 10.0, 20.0, 0.0, 20.0]
    reading = Reading(["pumpkin"])
    reading.begin("train")
    reading.add(path, [Annotation(1, [square])], size)
    (only,) = reading.finish().photos
    mask = only.annotations[0].mask(only.width, only.height)
    assert (only.width, only.height) == (40, 50)
    rows, columns = (slice(20), slice(10)) if size == (40, 50) else (slice(10), slice(20, 40))
    assert mask.sum() == mask[rows, columns].sum() == 200
