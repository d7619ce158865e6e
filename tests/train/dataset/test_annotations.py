"""The reader of annotations.json: every kind of mask, and a message that names what is wrong."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from pumpseg.errors import DatasetError
from pumpseg_train.dataset.annotations import read_dataset, read_splits
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


def test_classes_are_numbered_by_category_id_not_by_place(tmp_path, make_split, edit_json):
    make_split(tmp_path, [[(0, DISC)]], classes=("apple", "pumpkin"))
    edit_json(tmp_path, lambda content: content["categories"].reverse())
    dataset = read_dataset(tmp_path)
    assert dataset.classes == ("apple", "pumpkin")
    assert dataset.photos[0].annotations[0].class_id == 1


def test_crowd_regions_are_marked(tmp_path, make_split, edit_json):
    make_split(tmp_path, [[(0, DISC), (0, (120, 60, 20, 20))]])
    edit_json(tmp_path, lambda content: content["annotations"][1].update(iscrowd=1))
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
def test_an_annotation_of_something_unknown_is_refused(tmp_path, make_split, edit_json, key, value):
    make_split(tmp_path, [[(0, DISC)]])
    edit_json(tmp_path, lambda content: content["annotations"][0].update({key: value}))
    with pytest.raises(DatasetError, match=rf"annotations\.json: annotation 1: {key} 99"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("segmentation", [[], None, [[1, 1, 2, 2]], ""])
def test_annotations_without_a_mask_are_left_out_and_counted(tmp_path, make_split, edit_json, segmentation, caplog):
    make_split(tmp_path, [[(0, DISC), (0, DISC)]])
    edit_json(tmp_path, lambda content: content["annotations"][0].update(segmentation=segmentation))
    (photo,) = read_dataset(tmp_path).photos
    assert [annotation.id for annotation in photo.annotations] == [2]
    assert "annotations left out because they have no mask: 1, the first: 0.png, annotation 1" in caplog.text


def test_a_set_for_detection_is_refused(tmp_path, make_split, edit_json):
    make_split(tmp_path, [[(0, DISC)], [(0, DISC)]])
    edit_json(tmp_path, lambda content: [a.pop("segmentation") for a in content["annotations"]])
    with pytest.raises(DatasetError, match="none of the 2 annotations has a mask: its segmentation is None"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("segmentation", "detail"),
    [
        ({"size": [120, 160]}, "KeyError 'counts'"),
        ({"size": [120, 160], "counts": "~~"}, "the RLE string is truncated"),
        ({"size": [120, 160], "counts": [10, -20, 19210]}, "a run length is -20"),
        ("x", "it is neither polygons nor RLE counts: 'x'"),
    ],
)
def test_a_damaged_mask_names_its_annotation(tmp_path, make_split, edit_json, segmentation, detail):
    make_split(tmp_path, [[(0, DISC)]])
    edit_json(tmp_path, lambda content: content["annotations"][0].update(segmentation=segmentation))
    with pytest.raises(DatasetError, match=r"annotations\.json: 0\.png, annotation 1: ") as raised:
        read_dataset(tmp_path)
    assert detail in str(raised.value)


@pytest.mark.parametrize(
    "size", [{}, {"width": None, "height": None}, {"width": 0, "height": 0}, {"width": "", "height": 9}]
)
def test_a_missing_size_is_that_of_the_photo(tmp_path, make_split, edit_json, size):
    make_split(tmp_path, [[(0, DISC)]])

    def resize(content):
        del content["images"][0]["width"], content["images"][0]["height"]
        content["images"][0].update(size)

    edit_json(tmp_path, resize)
    (photo,) = read_dataset(tmp_path).photos
    assert (photo.width, photo.height) == (160, 120)


@pytest.mark.parametrize(
    ("value", "crowd"), [(0, False), ("0", False), (None, False), (1, True), ("1", True), (1.0, True)]
)
def test_iscrowd_of_any_kind(tmp_path, make_split, edit_json, value, crowd):
    make_split(tmp_path, [[(0, DISC)]])
    edit_json(tmp_path, lambda content: content["annotations"][0].update(iscrowd=value))
    assert read_dataset(tmp_path).photos[0].annotations[0].crowd is crowd


def test_polygons_of_pairs_are_polygons(tmp_path, make_split, edit_json):
    make_split(tmp_path, [[(0, DISC)]])
    square = [[[1, 1], [5, 1], [5, 5], [1, 5]]]
    edit_json(tmp_path, lambda content: content["annotations"][0].update(segmentation=square))
    assert read_dataset(tmp_path).photos[0].annotations[0].mask(160, 120).sum() == 16


def test_ids_of_several_kinds(tmp_path, make_split, edit_json):
    make_split(tmp_path, [[(0, DISC)]], classes=("apple", "pumpkin"))
    edit_json(tmp_path, lambda content: content["categories"][1].update(id="2"))
    edit_json(tmp_path, lambda content: content["images"][0].update(id=10.0))
    assert read_dataset(tmp_path).classes == ("apple", "pumpkin")
    edit_json(tmp_path, lambda content: content["annotations"][0].update(category_id="3"))
    with pytest.raises(DatasetError, match="annotation 1: category_id '3' is not 3: one is text, one a number"):
        read_dataset(tmp_path)
    edit_json(tmp_path, lambda content: content["categories"][0].update(id=[3]))
    with pytest.raises(DatasetError, match=r"categories\[0\] has the id \[3\]"):
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
def test_two_categories_of_one_name_or_number_are_refused(tmp_path, make_split, edit_json, what):
    make_split(tmp_path, [[(0, DISC)]])

    def double(content):
        content["categories"].append({"name": "twin", "id": 77} | {what: content["categories"][0][what]})

    edit_json(tmp_path, double)
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
        ({"size": [120, 160], "counts": [10, 20, 30]}, "RLE counts cover 60 pixels of 160x120"),
    ],
)
def test_masks_that_would_take_any_memory_are_refused(tmp_path, make_split, edit_json, segmentation, message):
    make_split(tmp_path, [[(0, DISC)]])
    edit_json(tmp_path, lambda content: content["annotations"][0].update(segmentation=segmentation))
    with pytest.raises(DatasetError, match=message):
        read_dataset(tmp_path)


def test_a_crowd_flag_that_is_neither_is_named(tmp_path, make_split, edit_json):
    make_split(tmp_path, [[(0, DISC)]])
    edit_json(tmp_path, lambda content: content["annotations"][0].update(iscrowd="maybe"))
    for read in (read_dataset, read_splits):
        with pytest.raises(DatasetError, match=r"0\.png, annotation 1: its iscrowd is 'maybe', 0 or 1 is needed"):
            read(tmp_path)


def test_a_photo_of_unknown_size_that_is_missing_is_a_fault(tmp_path, make_split, edit_json):
    make_split(tmp_path, [[(0, DISC)]])
    (tmp_path / "images" / "0.png").unlink()
    edit_json(tmp_path, lambda content: content["images"][0].update(width=None))
    faults = []
    (only,) = read_splits(tmp_path, faults.append).photos
    assert [fault.kind for fault in faults] == ["image of unknown size"]
    assert (only.width, only.annotations[0].segmentation) == (0, None)
    with pytest.raises(DatasetError, match=r"0\.png: the image .* does not exist"):
        read_dataset(tmp_path)
