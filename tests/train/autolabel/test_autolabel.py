"""Labels by a teacher and by a white background, against truth that is known."""

import json

import cv2
import numpy as np
import pytest

from pumpseg.instances import Instances
from pumpseg_train.autolabel.pseudo_labels import fills_hull, pseudo_label
from pumpseg_train.autolabel.white_background import objects_on_white
from pumpseg_train.cli import data as data_command
from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.dataset.masks import decode

ORANGE = (20, 120, 230)  # BGR


def on_white(*ellipses, size=(200, 240), shadow=True):
    """A photo with orange ellipses (x, y, rx, ry) and grey shadows on white, and the mask of each."""
    picture = np.full((*size, 3), 252, np.uint8)
    masks = []
    for x, y, rx, ry in ellipses:
        if shadow:
            cv2.ellipse(picture, (x, y + ry), (rx, 6), 0, 0, 360, (215, 215, 215), -1, cv2.LINE_AA)
        cv2.ellipse(picture, (x, y), (rx, ry), 0, 0, 360, ORANGE, -1, cv2.LINE_AA)
        mask = np.zeros(size, np.uint8)
        masks.append(cv2.ellipse(mask, (x, y), (rx, ry), 0, 0, 360, 1, -1).astype(bool))
    return picture, masks


def iou(a, b):
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


def test_objects_on_white_are_outlined_without_their_shadows():
    picture, wanted = on_white((60, 100, 40, 50), (170, 110, 45, 40))
    found = sorted(objects_on_white(picture), key=lambda mask: np.argwhere(mask)[:, 1].mean())
    assert [mask.shape for mask in found] == [(200, 240)] * 2
    assert min(iou(a, b) for a, b in zip(found, wanted, strict=True)) > 0.95


def test_what_is_carved_out_belongs_to_the_object():
    picture, (wanted,) = on_white((120, 100, 70, 60))
    cv2.circle(picture, (100, 90), 10, (250, 250, 250), -1)
    (found,) = objects_on_white(picture)
    assert iou(found, wanted) > 0.95


@pytest.mark.parametrize(
    "picture",
    [
        on_white((80, 100, 45, 50), (160, 100, 45, 50))[0],  # they touch
        np.full((100, 120, 3), 250, np.uint8),
        np.full((100, 120, 3), ORANGE, np.uint8),
        np.where(on_white((120, 100, 70, 60))[0] > 245, np.uint8(150), on_white((120, 100, 70, 60))[0]),
    ],
    ids=["touching", "nothing", "no background", "on grey"],
)
def test_doubtful_photos_are_left_out(picture):
    assert objects_on_white(picture) == []


def test_the_same_photo_gives_the_same_mask():
    picture, _ = on_white((120, 100, 70, 60))
    first, again = (objects_on_white(picture)[0] for _ in range(2))
    assert np.array_equal(first, again)


def test_a_disc_fills_its_hull_and_a_ring_does_not():
    disc = np.zeros((60, 60), np.uint8)
    cv2.circle(disc, (30, 30), 20, 1, -1)
    ring = disc.copy()
    cv2.circle(ring, (30, 30), 12, 0, -1)
    assert fills_hull(disc, 0.95)
    assert fills_hull(ring, 0.5)
    assert not fills_hull(ring, 0.9)
    assert not fills_hull(np.zeros((5, 5), np.uint8), 0.0)


def teacher(boxes, scores):
    """Finds solid boxes, whatever it is shown."""

    def predict(frame):
        return Instances.in_frame(
            np.array(boxes, np.float32),
            np.array(scores, np.float32),
            np.zeros(len(boxes), np.int64),
            np.ones((len(boxes), 28, 28), np.float32),
            frame.shape[:2],
            ("pumpkin",),
        )

    return predict


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), np.full((80, 100, 3), 90, np.uint8))
    return path


def test_what_the_teacher_is_sure_of_is_an_instance_and_the_rest_a_crowd(photo):
    seen = []
    predict = teacher([[10, 20, 40, 60], [50, 10, 90, 30]], [0.9, 0.3])
    (labelled,) = pseudo_label([photo], predict, score=0.5, most=5, progress=lambda: seen.append(1))
    instance, rest = labelled.labels
    mask = decode(instance.segmentation, 100, 80)
    assert (instance.class_name, instance.crowd) == ("pumpkin", False)
    assert mask[20:60, 10:40].all()
    assert mask.sum() == 30 * 40
    assert rest.crowd
    assert decode(rest.segmentation, 100, 80).all()
    assert seen == [1]


def test_photos_without_anything_sure_or_with_too_much_are_left_out(photo):
    assert pseudo_label([photo], teacher([[10, 20, 40, 60]], [0.4]), score=0.5, most=5) == []
    heap = teacher([[x, 10, x + 8, 20] for x in range(0, 90, 10)], [0.9] * 9)
    assert pseudo_label([photo], heap, score=0.5, most=8) == []
    assert len(pseudo_label([photo], heap, score=0.5, most=9)) == 1


def test_label_on_white_writes_a_data_set_without_what_was_rejected(tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, ellipse in enumerate([(60, 100, 40, 50), (120, 90, 50, 40), (130, 100, 60, 60)]):
        cv2.imwrite(str(photos / f"{number}.png"), on_white(ellipse)[0])
    cv2.imwrite(str(photos / "empty.png"), np.full((50, 50, 3), 250, np.uint8))
    reject = tmp_path / "reject.txt"
    reject.write_text("1.png\n", encoding="utf-8-sig")  # as Windows' editor saves it
    command = ["label-on-white", str(photos), "--class", "pumpkin", "--out", str(tmp_path / "out")]
    assert data_command.main([*command, "--reject", str(reject)]) == 0
    assert "2 of 3 photos, 2 instances" in capsys.readouterr().out
    dataset = read_dataset(tmp_path / "out", "train")
    assert dataset.classes == ("pumpkin",)
    assert [photo.path.name for photo in dataset.photos] == ["0.png", "2.png"]


@pytest.mark.parametrize("command", [["label-on-white", "{}", "--class", "a"], ["pseudo-label", "{}.onnx", "{}"]])
def test_a_folder_that_is_not_empty_is_told_before_anything_is_labelled(command, photo, tmp_path, capsys):
    line = [word.format(photo.parent) for word in command]
    assert data_command.main([*line, "--out", str(photo.parent)]) == 2
    assert "is not an empty folder" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert data_command.main([*line, "--out", str(tmp_path / "file" / "out")]) == 2
    assert f"cannot write {tmp_path / 'file' / 'out'}" in capsys.readouterr().err


def test_nothing_labelled_leaves_no_folder(photo, tmp_path, capsys):
    line = ["label-on-white", str(photo.parent), "--class", "a", "--out", str(tmp_path / "out")]
    assert data_command.main(line) == 2
    assert "nothing could be labelled in the 1 photos" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [photo]


def test_pseudo_label_runs_a_model_file(tiny_onnx, fruit, tmp_path, capsys):
    command = ["pseudo-label", str(tiny_onnx), str(fruit / "train" / "images"), "--out", str(tmp_path / "out")]
    code = data_command.main([*command, "--threshold", "0", "--most", "100"])
    out, error = capsys.readouterr()
    if code:  # the tiny model has seen four batches, and may find nothing at all
        assert "nothing could be labelled" in error
    else:
        assert f"wrote {tmp_path / 'out'}" in out
        content = json.loads((tmp_path / "out" / "train" / "annotations.json").read_text())
        assert {annotation["iscrowd"] for annotation in content["annotations"]} == {0, 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--reject", "nowhere.txt"], "--reject nowhere.txt: No such file"),
        (["--reject", "{names}"], "has no photo ghost.png"),
        (["--reject", "{latin}"], "'utf-8' codec can't decode"),
    ],
)
def test_a_wrong_list_of_rejects_is_told(options, message, photo, tmp_path, capsys):
    names = tmp_path / "names.txt"
    names.write_text("ghost.png\n")
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"caf\xe9.png\n")
    options = [option.format(names=names, latin=latin) for option in options]
    command = ["label-on-white", str(photo.parent), "--class", "pumpkin", "--out", str(tmp_path / "out"), *options]
    assert data_command.main(command) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--threshold=2", "--most=0", "--solidity=-1"])
def test_impossible_thresholds_are_refused(option, photo, tmp_path, capsys):
    command = ["pseudo-label", "fast", str(photo.parent), "--out", str(tmp_path / "out"), option]
    assert data_command.main(command) == 2
    assert "is possible" in capsys.readouterr().err
