"""Geometry of training pictures: image and masks stay aligned, and what is hidden is not asked for."""

import json

import cv2
import numpy as np
import pytest

from pumpseg.errors import DatasetError
from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.dataset.class_ids import CROWD, OTHER
from pumpseg_train.dataset.labelled_set import Annotation, Photo
from pumpseg_train.samples.scene import (
    Cutout,
    Instance,
    Scene,
    affinity,
    cut_out,
    mosaic,
    photo_instances,
    warp,
    warp_affine,
)

ORANGE, BLUE = (230, 120, 20), (20, 60, 200)
FRUIT = (70, 55, 34, 26)


def looks_orange(image):
    return image[..., 0].astype(int) > image[..., 2]


def overlap(a, b):
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


@pytest.fixture
def photo(draw_photo):
    """A picture and its one instance."""
    image, (mask,) = draw_photo([FRUIT])
    x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
    return image, Instance(1, x, y, mask[y : y + h, x : x + w].astype(np.uint8) * 255)


@pytest.mark.parametrize("scale", [0.3, 0.45, 0.59, 0.61, 1.0, 1.3])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("degrees", [0, 25])
def test_a_warp_keeps_image_and_mask_aligned(photo, scale, flip, degrees):
    image, instance = photo
    matrix = affinity(scale, degrees, flip, (70, 55), (48, 52))
    scene = warp(image, [instance], matrix, 96, 127)
    assert scene.image.shape == (96, 96, 3)
    seen, mask = looks_orange(scene.image), scene.masks[0] > 127
    assert overlap(seen, mask) > (0.9 if scale < 0.6 else 0.95)
    centre_seen, centre_mask = np.argwhere(seen).mean(axis=0), np.argwhere(mask).mean(axis=0)
    assert np.abs(centre_seen - centre_mask).max() < 0.3
    assert np.abs(centre_mask - (52, 48)).max() < 1, "the source point is at the target"
    assert mask.sum() == pytest.approx(np.pi * 34 * 26 * scale**2, rel=0.08)
    assert scene.areas[0] == pytest.approx(np.pi * 34 * 26 * scale**2, rel=0.02)


def test_a_flip_mirrors_left_and_right_only():
    image = np.zeros((40, 40, 3), np.uint8)
    image[:20, :20] = ORANGE
    mask = np.full((20, 20), 255, np.uint8)
    scene = warp(image, [Instance(1, 0, 0, mask)], affinity(1, 0, True, (19.5, 19.5), (19.5, 19.5)), 40, 0)
    assert np.array_equal(scene.image, image[:, ::-1])
    assert (scene.masks[0][:20, 20:] == 255).all()
    assert not scene.masks[0][:, :20].any()


def test_what_no_picture_covers_is_filled():
    scene = warp(np.zeros((40, 40, 3), np.uint8), [], affinity(1, 0, False, (0, 0), (20, 20)), 96, 127)
    assert (scene.image[:19] == 127).all()
    assert (scene.image[25:55, 25:55] == 0).all()


def test_affinity_turns_about_the_source_point():
    matrix = affinity(2, 90, False, (10, 20), (50, 60))
    assert np.allclose(matrix @ (10, 20, 1), (50, 60))
    assert np.allclose(matrix @ (11, 20, 1), (50, 62)), "right becomes down"
    assert np.allclose(affinity(1, 0, True, (10, 20), (50, 60)) @ (11, 20, 1), (49, 60))


def test_affinity_stretches_without_changing_areas():
    matrix = affinity(3, 90, False, (10, 20), (50, 60), 1.44)
    assert np.allclose(matrix @ (11, 20, 1), (50, 60 + 3 * 1.2)), "wider before it is turned"
    assert np.allclose(matrix @ (10, 21, 1), (50 - 3 / 1.2, 60))
    assert np.linalg.det(matrix[:, :2]) == pytest.approx(9)


def square_cutout(colour=ORANGE, side=30, class_id=1):
    image = np.full((side, side, 3), colour, np.uint8)
    return Cutout(class_id, image, np.full((side, side), 255, np.uint8))


def at(x, y, scale=1.0):
    return np.array([[scale, 0, x], [0, scale, y]], float)


def empty_scene(side=96):
    return Scene(np.full((side, side, 3), BLUE, np.uint8), [], [], [])


def test_pasting_puts_colour_and_mask_at_one_place_and_keeps_the_colour_order():
    scene = empty_scene()
    scene.paste(square_cutout(), at(10, 20))
    assert (scene.image[20:50, 10:40] == ORANGE).all()
    assert (scene.image[:20] == BLUE).all()
    assert (scene.masks[0][20:50, 10:40] == 255).all()
    assert np.count_nonzero(scene.masks[0]) == 900
    (instance,) = scene.instances()
    assert (instance.class_id, instance.x, instance.y, instance.mask.shape) == (1, 10, 20, (30, 30))


def test_a_soft_edge_mixes_both_colours():
    cutout = square_cutout()
    cutout.alpha[:] = 128
    scene = empty_scene()
    scene.paste(cutout, at(10, 20))
    assert np.allclose(scene.image[30, 20], (np.array(ORANGE) + BLUE) / 2, atol=2)


def test_pasting_occludes_what_lies_behind():
    scene = empty_scene()
    scene.paste(square_cutout(class_id=1), at(10, 20))
    scene.paste(square_cutout((10, 200, 10), class_id=2), at(20, 20))
    behind, front = scene.instances()
    assert (behind.class_id, behind.x, behind.mask.shape) == (1, 10, (30, 10))
    assert (front.class_id, front.x, front.mask.shape) == (2, 20, (30, 30))
    assert scene.image[30, 25].tolist() == [10, 200, 10]


def test_pasting_occludes_instances_of_the_photo_too(photo):
    image, instance = photo
    scene = warp(image, [instance], at(0, 0), 160, 127)
    before = scene.instances()[0].mask.size
    scene.paste(square_cutout((10, 200, 10), side=40), at(80, 20))
    assert np.count_nonzero(scene.masks[0][20:60, 80:120]) == 0
    assert scene.instances()[0].mask.size < before


def test_nearly_hidden_instances_become_crowd_regions():
    for gap, class_id in ((4, CROWD), (8, 1)):  # 13% and 27% stay visible
        scene = empty_scene()
        scene.paste(square_cutout(class_id=1), at(10, 20))
        scene.paste(square_cutout(class_id=2, side=40), at(10 + gap, 15))
        assert [instance.class_id for instance in scene.instances()] == [class_id, 2]


def test_wholly_hidden_instances_vanish():
    scene = empty_scene()
    scene.paste(square_cutout(class_id=1, side=20), at(20, 20))
    scene.paste(square_cutout(class_id=2, side=40), at(10, 10))
    assert [instance.class_id for instance in scene.instances()] == [2]


def test_tiny_instances_become_crowd_regions():
    scene = empty_scene()
    scene.paste(square_cutout(side=6), at(10, 20))
    scene.paste(square_cutout(side=7), at(50, 20))
    assert [instance.class_id for instance in scene.instances()] == [CROWD, 1]


def test_instances_cut_off_by_the_picture_become_crowd_regions():
    for x, class_id in ((92, CROWD), (80, 1)):
        scene = empty_scene()
        scene.paste(square_cutout(), at(x, 20))
        assert [instance.class_id for instance in scene.instances()] == [class_id]


def test_other_things_cover_and_have_an_outline():
    scene = empty_scene()
    scene.paste(square_cutout(), at(20, 20))
    scene.paste(square_cutout(class_id=OTHER), at(20, 20))
    assert [instance.class_id for instance in scene.instances()] == [OTHER]


def test_other_things_that_are_nearly_hidden_are_no_crowd_regions():
    scene = empty_scene()
    scene.paste(square_cutout(class_id=OTHER), at(20, 20))
    scene.paste(square_cutout(class_id=1), at(20, 20))
    assert [instance.class_id for instance in scene.instances()] == [1]


@pytest.mark.parametrize("scale", [0.3, 1.0, 1.7])
@pytest.mark.parametrize("target", [(50, 40), (2, 3), (95, 60)])
def test_pasting_is_an_affine_warp_of_the_whole_picture(scale, target):
    scene = empty_scene()
    before = scene.image.copy()
    cutout = square_cutout()
    size = scene.image.shape[1::-1]
    matrix = affinity(scale, 20, True, (15, 15), target)
    alpha = warp_affine(cutout.alpha, matrix, size).astype(int)
    scene.paste(cutout, matrix)
    difference = np.abs(scene.masks[-1].astype(int) - alpha)
    assert np.mean(difference > 8) < 0.002, "warped in parts, positions are rounded otherwise"
    assert difference.max() <= 64
    assert (scene.image[alpha == 0] == before[alpha == 0]).all(axis=-1).mean() > 0.99


def test_pasting_outside_changes_nothing():
    scene = empty_scene()
    scene.paste(square_cutout(), at(200, 200))
    assert (scene.image == BLUE).all()
    assert scene.instances() == scene.masks == scene.areas == []


def test_cut_out_takes_the_pixels_of_the_instance(photo):
    image, instance = photo
    cutout = cut_out(image, instance)
    assert cutout.class_id == instance.class_id
    height, width = instance.mask.shape
    assert cutout.image.shape == (height + 2, width + 2, 3)
    assert (cutout.image[cutout.alpha > 0] == ORANGE).all()
    assert not cutout.alpha[[0, -1]].any()
    assert not cutout.alpha[:, [0, -1]].any()
    assert np.count_nonzero(cutout.alpha) < np.count_nonzero(instance.mask), "drawn in"


def test_photo_instances_scale_with_a_shrunk_photo_and_put_crowds_last(tmp_path):
    image = np.full((1000, 2560, 3), BLUE, np.uint8)
    image[200:600, 400:1200] = ORANGE
    cv2.imwrite(str(tmp_path / "large.png"), image[..., ::-1])
    square = [400, 200, 1200, 200, 1200, 600, 400, 600]
    annotations = (Annotation(1, [square], crowd=True), Annotation(1, [square]))
    shrunk, instances = photo_instances(Photo(tmp_path / "large.png", 2560, 1000, annotations))
    assert shrunk.shape == (500, 1280, 3)
    assert [instance.class_id for instance in instances] == [1, CROWD]
    first = instances[0]
    assert (first.x, first.y, first.mask.shape) == (200, 100, (200, 400))
    assert looks_orange(shrunk[first.y : first.y + 200, first.x : first.x + 400]).all()


def test_photo_instances_match_the_drawn_masks(fruit, draw_photo):
    photo = read_dataset(fruit, "train").photos[1]
    image, (instance,) = photo_instances(photo)
    _, (wanted,) = draw_photo([(30, 95, 14, 12)])
    full = np.zeros(wanted.shape, bool)
    height, width = instance.mask.shape
    full[instance.y : instance.y + height, instance.x : instance.x + width] = instance.mask > 127
    assert np.array_equal(full, wanted)
    assert np.array_equal(looks_orange(image), wanted)


def test_a_mosaic_keeps_images_masks_and_classes_together():
    quarters = []
    for class_id in (1, 2, 3, 4):
        quarter = empty_scene(40)
        quarter.paste(square_cutout(class_id=class_id, side=10), at(class_id * 2, 5))
        quarters.append(quarter)
    whole = mosaic(quarters)
    assert whole.image.shape == (80, 80, 3)
    places = [(instance.class_id, instance.x, instance.y) for instance in whole.instances()]
    assert places == [(1, 2, 5), (2, 44, 5), (3, 6, 45), (4, 48, 45)]
    for mask in whole.masks:
        assert (whole.image[mask > 250] == ORANGE).all()


def test_a_photo_of_another_shape_than_its_annotations_is_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "turned.png"), np.zeros((40, 60, 3), np.uint8))
    with pytest.raises(DatasetError, match="is 60x40, its annotations are for 40x60"):
        photo_instances(Photo(tmp_path / "turned.png", 40, 60))


def test_nothing_is_known_of_the_rest_of_a_photo_that_is_labelled_in_part(tmp_path, make_split):
    make_split(tmp_path, [[(0, FRUIT)]])
    path = tmp_path / "annotations.json"
    content = json.loads(path.read_text())
    content["images"][0]["partly_labelled"] = True
    path.write_text(json.dumps(content))
    (photo,) = read_dataset(tmp_path).photos
    image, (instance, rest) = photo_instances(photo)
    assert (instance.class_id, rest.class_id) == (1, CROWD)
    assert rest.mask.shape == image.shape[:2] and rest.mask.all()
