"""The reader of annotations.json: every kind of mask, and a message that names what is wrong."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from pumpseg.errors import DatasetError
from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.dataset.labelled_set import Annotation

DISC = (60, 60, 40, 35)


def test_reads_photos_classes_and_annotations(tmp_path, make_split):
    make_split(tmp_path / "train", [[(1, DISC)], []], classes=("apple", "pumpkin"))
    dataset = read_dataset(tmp_path, "train")
    assert dataset.classes == ("apple", "pumpkin")
    first, second = dataset.photos
    assert (first.id, first.width, first.height) == (10, 160, 120)
    assert first.path == tmp_path / "train" / "images" / "0.png"
    assert [(a.class_id, a.crowd) for a in first.annotations] == [(2, False)]
    assert second.annotations == ()
    assert read_dataset(tmp_path / "train").photos[0].path == first.path


def change(folder, edit):
    path = folder / "annotations.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_classes_are_numbered_by_category_id_not_by_place(tmp_path, make_split):
    make_split(tmp_path, [[(0, DISC)]], classes=("apple", "pumpkin"))
    change(tmp_path, lambda content: content["categories"].reverse())
    dataset = read_dataset(tmp_path)
    assert dataset.classes == ("apple", "pumpkin")
    assert dataset.photos[0].annotations[0].class_id == 1


def test_crowd_regions_are_marked(tmp_path, make_split):
    make_split(tmp_path, [[(0, DISC), (0, (120, 60, 20, 20))]])
    change(tmp_path, lambda content: content["annotations"][1].update(iscrowd=1))
    assert [a.crowd for a in read_dataset(tmp_path).photos[0].annotations] == [False, True]


@pytest.mark.parametrize("kind", ["polygons", "uncompressed", "compressed"])
def test_every_kind_of_mask_gives_the_same_pixels(kind, draw_photo):
    _, (wanted,) = draw_photo([DISC])
    encoded = coco_mask.encode(np.asfortranarray(wanted.astype(np.uint8)))
    if kind == "compressed":
        segmentation = {"size": [120, 160], "counts": encoded["counts"].decode()}
    elif kind == "uncompressed":
        changes = np.flatnonzero(np.diff(wanted.T.ravel(), prepend=False, append=False))
        counts = np.diff(np.concatenate([[0], changes, [wanted.size]]))
        segmentation = {"size": [120, 160], "counts": [int(count) for count in counts]}
    else:
        angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
        points = np.stack([60 + 40 * np.cos(angles), 60 + 35 * np.sin(angles)], -1)
        segmentation = [points.ravel().tolist()]
    mask = Annotation(1, segmentation).mask(160, 120)
    assert mask.shape == (120, 160)
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) == {0, 1}
    assert np.count_nonzero(mask != wanted) <= (0 if kind != "polygons" else 0.02 * wanted.sum())


def test_an_instance_in_two_pieces_has_both():
    left, right = [2, 2, 8, 2, 8, 8, 2, 8], [12, 2, 18, 2, 18, 8, 12, 8]
    mask = Annotation(1, [left, right]).mask(20, 10)
    assert mask[:, :10].sum() == mask[:, 10:].sum() == 36


def test_missing_folder_names_the_file(tmp_path):
    with pytest.raises(DatasetError, match=r"nowhere/val/annotations\.json does not exist"):
        read_dataset(tmp_path / "nowhere", "val")


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"images": 3, "annotations": [], "categories": []}', '{"images": [], "annotations": []}']
)
def test_bad_json_names_the_file(tmp_path, text):
    (tmp_path / "annotations.json").write_text(text)
    with pytest.raises(DatasetError, match=r"annotations\.json is not COCO json"):
        read_dataset(tmp_path)


def test_json_that_is_no_text_names_the_file(tmp_path):
    (tmp_path / "annotations.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match=r"annotations\.json is not COCO json"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(("key", "value"), [("category_id", 99), ("image_id", 99)])
def test_an_annotation_of_something_unknown_is_refused(tmp_path, make_split, key, value):
    make_split(tmp_path, [[(0, DISC)]])
    change(tmp_path, lambda content: content["annotations"][0].update({key: value}))
    with pytest.raises(DatasetError, match=rf"annotations\.json: annotation 1: {key} 99"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("segmentation", [[], None, {"size": [120, 160]}, "x"])
def test_an_annotation_without_a_mask_is_refused(tmp_path, make_split, segmentation):
    make_split(tmp_path, [[(0, DISC)]])
    change(tmp_path, lambda content: content["annotations"][0].update(segmentation=segmentation))
    with pytest.raises(DatasetError, match=r"annotations\.json: 0\.png, annotation 1: "):
        read_dataset(tmp_path)


def test_no_images_names_the_file(tmp_path, make_split):
    make_split(tmp_path, [])
    with pytest.raises(DatasetError, match=r"annotations\.json lists no images"):
        read_dataset(tmp_path)


def test_a_missing_image_is_named(tmp_path, make_split):
    make_split(tmp_path, [[(0, DISC)], [(0, DISC)]])
    (tmp_path / "images" / "1.png").unlink()
    with pytest.raises(DatasetError, match=r"1 of 2 images are missing, the first is .*1\.png"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("what", ["name", "id"])
def test_two_categories_of_one_name_or_number_are_refused(tmp_path, make_split, what):
    make_split(tmp_path, [[(0, DISC)]])

    def double(content):
        content["categories"].append({"name": "twin", "id": 77} | {what: content["categories"][0][what]})

    change(tmp_path, double)
    with pytest.raises(
        DatasetError, match="2 categories have this name" if what == "name" else r"category \d+: 2 times"
    ):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1, 1, float("nan"), 9, 9, 9]], "a coordinate is nan"),
        ([[1, 1, 5, 9, 9, 9, 4]], "not a (flat )?list of x, y"),
        ([[1, 1, "a", 9, 9, 9]], "not a (flat )?list of x, y"),
        ({"size": [120, 160], "counts": [10, 20, 30]}, "run lengths cover 60 pixels of 160x120"),
    ],
)
def test_masks_that_would_take_any_memory_are_refused(tmp_path, make_split, segmentation, message):
    make_split(tmp_path, [[(0, DISC)]])
    change(tmp_path, lambda content: content["annotations"][0].update(segmentation=segmentation))
    with pytest.raises(DatasetError, match=message):
        read_dataset(tmp_path)
