"""YOLO's text files and data.yaml."""

import pytest

from pumpseg.errors import DatasetError
from pumpseg_train.convert.yolo import read


@pytest.mark.parametrize(
    "settings",
    [
        "names: [a, b]\ntrain: images/train\n",
        "path: /not/on/this/machine\nnames: {0: a, 1: b}\ntrain: [images/train]\nval:\n",
        "names: [a, b]\ntrain: ../images/train\n",
        "names: [a, b]\ntrain: list.txt\n",
        "names: {'0': a, '1': b}\ntrain: My-Project-1/images/train\n",
        "names: [a, b]\ntrain: images\\train\n",
        None,
    ],
)
def test_yolo_of_every_make(tmp_path, settings, photo, yolo):
    yolo(tmp_path, settings=settings)
    (tmp_path / "list.txt").write_text("./images/train/a.png\n")
    photo(tmp_path / "images" / "train", "negative.png")
    labelled = read(tmp_path, "train", ("a", "b"))
    assert labelled.classes == ("a", "b")
    first = labelled.splits["train"][0]
    mask = first.annotations[0].mask(50, 40)
    assert mask.sum() == mask[5:25, 10:20].sum() == 200
    assert len(labelled.splits["train"]) == (1 if settings and "list" in settings else 2)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.2 0.2", r"none of the labels has a mask: boxes .*: 1, .*a\.txt, line 1"),
        ("2 0.2 0.1 0.4 0.1 0.4 0.6", "has class 2, there are 2 classes"),
        ("-1 0.2 0.1 0.4 0.1 0.4 0.6", "has class -1"),
        ("0 0.2 0.1 0.4 0.1 0.4 0.6 0.1", "has 7 coordinates"),
        ("0 0.2 x 0.4 0.1 0.4 0.6", "is not a class number and coordinates"),
        ("0.5 0.2 0.1 0.4 0.1 0.4 0.6", "0.5 is not a whole number"),
        ("0 0.2 nan 0.4 0.1 0.4 0.6", r"a\.txt, line 1 .*a coordinate is nan"),
        ("0 0.2 0.1 -inf 0.1 0.4 0.6", r"a\.txt, line 1 .*a coordinate is -inf"),
    ],
)
def test_yolo_lines_that_make_no_sense_are_named(tmp_path, line, message, yolo):
    yolo(tmp_path, line)
    with pytest.raises(DatasetError, match=message):
        read(tmp_path, "train", ())


@pytest.mark.parametrize("settings", ["names: [a, b]\ntrain: images/train\n", None])
def test_yolo_photos_in_folders_of_folders_are_found(tmp_path, settings, photo, yolo):
    yolo(tmp_path, settings=settings)
    photo(tmp_path / "images" / "train" / "day1", "a.png", (40, 50))
    photo(tmp_path / "images" / "train" / ".thumbnails", "a.png")
    (tmp_path / "labels" / "train" / "day1").mkdir()
    (tmp_path / "labels" / "train" / "day1" / "a.txt").write_text("1 0 0 1 0 1 1 0 1\n")
    photos = read(tmp_path, "train", ("a", "b")).splits["train"]
    assert [[annotation.class_id for annotation in one.annotations] for one in photos] == [[1], [2]]


def test_yolo_splits_without_images_or_without_labels_are_refused(tmp_path, photo, yolo):
    yolo(tmp_path, settings="names: [a, b]\ntrain: images/train\nval: images/val\n")
    (tmp_path / "images" / "val").mkdir()
    with pytest.raises(DatasetError, match="there are no images of the split val"):
        read(tmp_path, "train", ())
    photo(tmp_path / "images" / "val", "b.png")
    with pytest.raises(DatasetError, match=r"no image of the split val has a label file: .*labels/val/b\.txt"):
        read(tmp_path, "train", ())


def test_yolo_splits_that_are_named_twice_are_refused(tmp_path, yolo):
    yolo(tmp_path, settings="names: [a, b]\nval: images/train\nvalid: images/train\n")
    with pytest.raises(DatasetError, match=r"data\.yaml: val and valid both mean val"):
        read(tmp_path, "train", ())
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "images" / "train_2").mkdir()
    with pytest.raises(DatasetError, match="train and train_2 both mean train"):
        read(tmp_path, "train", ("a",))


def test_yolo_lines_in_another_encoding_are_told(tmp_path, yolo):
    yolo(tmp_path, "0 0.2 0.1 0.4 0.1 0.4 0.6")
    label = next(tmp_path.rglob("a.txt"))
    label.write_bytes(b"0 0.2 \xe9 0.4 0.1")
    with pytest.raises(DatasetError, match=r"a\.txt is not UTF-8 text \('utf-8' codec"):
        read(tmp_path, "train", ())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("names: [a]\n", "names neither train, val nor test"),
        ("train: images/train\n", "not a data.yaml of YOLO: KeyError 'names'"),
        ("names: [a]\ntrain: images/elsewhere\n", "is neither a folder nor a list"),
        ("names: {1: a}\ntrain: images/train\n", "not numbered from 0"),
        ("{", "not a data.yaml of YOLO"),
    ],
)
def test_yolo_settings_that_make_no_sense_are_named(tmp_path, settings, message, yolo):
    yolo(tmp_path, settings=settings)
    with pytest.raises(DatasetError, match=message):
        read(tmp_path, "train", ())


@pytest.mark.parametrize("number", ["1.0", "1"])
def test_class_numbers_may_be_written_as_floats(tmp_path, yolo, number):
    yolo(tmp_path, f"{number} 0.2 0.125 0.4 0.125 0.4 0.625")
    assert read(tmp_path, "train", ()).photos[0].annotations[0].class_id == 2


def test_a_test_split_that_does_not_exist_is_left_out(tmp_path, yolo):
    yolo(tmp_path, settings="names: [a, b]\ntrain: images/train\ntest: ../test/images\n")
    labelled = read(tmp_path, "train", ())
    assert list(labelled.splits) == ["train"]
    (note,) = labelled.notes
    assert note.startswith("the split test was left out: ")
    assert "../test/images is neither a folder nor a list of images" in note


def test_labels_with_a_byte_order_mark(tmp_path, yolo):
    yolo(tmp_path)
    for path in (tmp_path / "data.yaml", tmp_path / "labels" / "train" / "a.txt"):
        path.write_text(path.read_text(), encoding="utf-8-sig")
    assert len(read(tmp_path, "train", ()).photos[0].annotations) == 1


@pytest.mark.parametrize(
    "entry",
    [
        "path: ../datasets/set\ntrain: images/train",
        "train: set/images/train",
        "train: /content/set/images/train",
        "train: 'D:\\yolo\\set\\images\\train'",
    ],
)
@pytest.mark.parametrize("names", ["[a, b]", "{'1': b, '0': a}", "{0.0: a, 1.0: b}"])
def test_folders_and_names_as_others_write_them(tmp_path, entry, names, yolo):
    yolo(tmp_path, settings=f"names: {names}\n{entry}\ntest: ../test/images\n")
    found = read(tmp_path, "train", ())
    assert (list(found.splits), found.classes) == (["train"], ("a", "b"))
    assert "the split test was left out: " in found.notes[0]


def test_boxes_among_polygons_are_left_out_and_counted(tmp_path, yolo):
    yolo(tmp_path, "0 0.2 0.125 0.4 0.125 0.4 0.625 0.2 0.625\n1 0.5 0.5 0.1 0.1\n1 0.2 0.2 0.1 0.1")
    found = read(tmp_path, "train", ())
    assert len(found.photos[0].annotations) == 1
    assert found.notes[0].startswith("boxes left out because they have no mask: 2, the first in")


@pytest.mark.parametrize("name", ["classes.txt", "obj.names"])
def test_the_names_are_those_of_the_list_next_to_the_labels(tmp_path, name, yolo):
    """HumanSignal/label-studio-converter#253: a YOLO export with classes.txt and no data.yaml."""
    yolo(tmp_path, "1 0.2 0.125 0.4 0.125 0.4 0.625 0.2 0.625", settings=None)
    (tmp_path / name).write_bytes(b"\xef\xbb\xbfgourd\r\npumpkin\r\n")
    found = read(tmp_path, "train", ())
    assert (found.classes, found.photos[0].annotations[0].class_id) == (("gourd", "pumpkin"), 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("a: &a [x]\nnames: [*a, *a]\ntrain: images/train\n", "it has aliases"),
        ("names: " + "[" * 3000, "nested too deeply|not a data.yaml"),
        ("names: [a]\nx: " + "x" * (1 << 20), "at most 1,048,576 are read"),
        ("names: [[a]]\ntrain: images/train\n", "its names are not a list of names"),
    ],
)
def test_settings_that_take_any_memory_are_refused(tmp_path, settings, message, yolo):
    yolo(tmp_path, settings=settings)
    with pytest.raises(DatasetError, match=message):
        read(tmp_path, "train", ())
