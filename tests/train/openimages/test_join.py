"""Boxes and masks joined: flags and PredictedIoU decide, turned photos get turned masks."""

from collections import Counter

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from pumpseg.errors import DatasetError
from pumpseg_train.dataset.masks import decode, upright
from pumpseg_train.dataset.photo_file import probe
from pumpseg_train.openimages.join import Region, Rules, annotate, make_plan, read_mask
from pumpseg_train.openimages.tables import BoxRow, MaskRow

BOX, OTHER = (0.1, 0.1, 0.5, 0.6), (0.6, 0.2, 0.9, 0.9)


def box(where=BOX, group=False, depiction=False, label="/m/1"):
    return BoxRow("a", label, where, group, depiction)


def mask(where=BOX, iou=0.9, label="/m/1", name="a.png"):
    return MaskRow(name, "a", label, "1", where, iou)


def test_a_mask_finds_its_box_though_written_with_fewer_digits():
    rounded = tuple(round(edge + 0.003, 2) for edge in OTHER)
    plan = make_plan([box(), box(OTHER, group=True)], [mask(rounded, name="b.png"), mask()], Rules())
    assert [(r.crowd, r.mask.file_name) for r in plan.images["a"]] == [(False, "a.png"), (True, "b.png")]
    assert plan.counts["masks without a box"] == 0


def test_masks_and_boxes_of_other_classes_are_strangers():
    plan = make_plan([box(label="/m/2")], [mask()], Rules())
    assert plan.counts["masks without a box"] == 1
    assert [(r.label, r.crowd) for r in plan.images["a"]] == [("/m/1", False), ("/m/2", True)]


def test_two_masks_do_not_share_a_box():
    plan = make_plan([box()], [mask(), mask((0.1, 0.1, 0.5, 0.62), name="b.png")], Rules())
    assert plan.counts["masks without a box"] == 1
    assert len(plan.images["a"]) == 2


@pytest.mark.parametrize(
    ("rules", "crowds"),
    [
        (Rules(), [False, True]),
        (Rules(unmasked="drop"), [False]),
        (Rules(min_iou=0.95), None),
        (Rules(depictions="drop"), None),
    ],
)
def test_rules_decide_what_is_left(rules, crowds):
    plan = make_plan([box(depiction=True), box(OTHER)], [mask()], rules)
    got = [region.crowd for region in plan.images["a"]] if plan.images else None
    assert got == crowds
    assert plan.counts["images without a usable mask"] == (crowds is None)


def test_a_mask_whose_iou_is_not_known_is_kept():
    assert make_plan([box()], [mask(iou=None)], Rules(min_iou=0.9)).images


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_is_what_pillow_makes_of_the_tag(orientation):
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    assert np.array_equal(upright(pixels, orientation), np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_masks_lie_on_the_photo_as_it_is_loaded(tmp_path, orientation):
    """A bright square in the stored pixels, its mask twice as large, and the photo read upright by OpenCV."""
    stored = np.zeros((40, 60, 3), np.uint8)
    stored[4:16, 30:50] = 255
    path = tmp_path / "a.jpg"
    image = Image.fromarray(stored)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(path, exif=exif, quality=95)
    cv2.imwrite(str(tmp_path / "a.png"), np.kron(stored[..., 0], np.ones((2, 2), np.uint8)))
    picture = probe(path.read_bytes(), "a.jpg")
    frame = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert frame.shape == (picture.height, picture.width)
    where = (0.5, 0.1, 50 / 60, 0.4)
    for region in (Region("/m/1", False, where, mask(where)), Region("/m/1", True, where, None)):
        counts = Counter()
        (annotation,) = annotate([region], picture, tmp_path, Rules(), counts)
        drawn = decode(annotation["segmentation"], picture.width, picture.height)
        assert np.array_equal(drawn, frame > 127)
        assert not counts


def test_a_mask_that_lies_elsewhere_than_its_box_is_counted(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.pad(np.full((5, 5), 255, np.uint8), (0, 35)))
    picture = probe(cv2.imencode(".jpg", np.zeros((40, 40, 3), np.uint8))[1].tobytes(), "a.jpg")
    counts = Counter()
    annotate([Region("/m/1", False, (0.5, 0.5, 1, 1), mask())], picture, tmp_path, Rules(), counts)
    assert counts == {"masks that do not fill their box": 1}


def test_a_damaged_mask_is_named_and_removed(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no png")
    picture = probe(cv2.imencode(".jpg", np.zeros((40, 40, 3), np.uint8))[1].tobytes(), "a.jpg")
    with pytest.raises(DatasetError, match=r"the mask a\.png is damaged"):
        read_mask(tmp_path / "a.png", picture)
    assert not (tmp_path / "a.png").exists()


def test_masks_an_edge_pixel_off_in_shape_are_taken(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((1066, 1600), 255, np.uint8))
    picture = probe(cv2.imencode(".jpg", np.zeros((683, 1024, 3), np.uint8))[1].tobytes(), "a.jpg")
    assert read_mask(tmp_path / "a.png", picture).shape == (683, 1024)
