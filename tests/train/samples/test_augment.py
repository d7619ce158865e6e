"""Training samples: their kinds, their colours, and that one seed gives one sample."""

import dataclasses

import cv2
import numpy as np
import pytest

from pumpseg.errors import DatasetError
from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.dataset.class_ids import OTHER
from pumpseg_train.samples import augment
from pumpseg_train.samples.augment import Material, Recipe, draw_sample, gather, jitter_colour, jitter_light, vary

LARGE = (60, 60, 40, 35)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def backgrounds(tmp_path_factory):
    """A folder with two green pictures."""
    folder = tmp_path_factory.mktemp("green")
    for number in range(2):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((80, 120, 3), (30, 160, 30), np.uint8))
    return folder


@pytest.fixture(scope="module")
def material(fruit, backgrounds):
    return gather(read_dataset(fruit, "train"), extras=[read_dataset(fruit, "val")], backgrounds=[backgrounds])


def is_green(scene):
    red, green, blue = scene.image.reshape(-1, 3).mean(axis=0)
    return green > max(red, blue)


def test_gather_cuts_out_what_is_large_enough(material):
    (cutouts,) = material.cutouts
    assert len(cutouts) == 3, "all of the train split but the smallest"
    assert all(max(cutout.alpha.shape) >= 48 for cutout in cutouts)
    assert len(material.photos) == 3
    assert [len(photos) for photos in material.extras] == [2]
    assert [len(folder) for folder in material.backgrounds] == [2]


def test_gather_leaves_out_fragments(tmp_path, make_split):
    make_split(tmp_path, [[(0, LARGE)]])
    dataset = read_dataset(tmp_path)
    photo = dataset.photos[0]
    mask = photo.annotations[0].mask(160, 120)
    for bite, kept in (((100, 60, 12), 1), ((60, 80, 30), 0)):  # a nibble, and a mouthful
        bitten = mask.copy()
        cv2.circle(bitten, bite[:2], bite[2], 0, -1)
        counts = np.diff(np.flatnonzero(np.diff(bitten.T.ravel(), prepend=2, append=2)))
        segmentation = {"size": [120, 160], "counts": [int(count) for count in counts]}
        annotation = dataclasses.replace(photo.annotations[0], segmentation=segmentation)
        changed = dataclasses.replace(dataset, photos=(dataclasses.replace(photo, annotations=(annotation,)),))
        assert sum(len(cutouts) for cutouts in gather(changed).cutouts) == kept


def test_gather_leaves_out_crowds_and_classes_that_are_not_learnt(tmp_path, make_split, fruit):
    make_split(tmp_path, [[(0, LARGE)], [(1, LARGE)]], classes=("apple", "pumpkin"))
    material = gather(read_dataset(fruit, "train"), cutouts=[read_dataset(tmp_path)])
    own, others = material.cutouts
    assert len(others) == 1
    assert {cutout.class_id for cutout in own + others} == {1}, "pumpkin is class 2 of one set and 1 of the other"

    photo = read_dataset(tmp_path).photos[1]
    crowd = dataclasses.replace(photo, annotations=(dataclasses.replace(photo.annotations[0], crowd=True),))
    assert gather(dataclasses.replace(read_dataset(tmp_path), photos=(crowd,))).cutouts == ()


def test_gather_refuses_extras_of_other_classes_and_empty_backgrounds(tmp_path, make_split, fruit):
    make_split(tmp_path, [[]], classes=("apple",))
    with pytest.raises(DatasetError, match=r"has the class 'apple', which .* has not"):
        gather(read_dataset(fruit, "train"), extras=[read_dataset(tmp_path)])
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DatasetError, match="holds no images"):
        gather(read_dataset(fruit, "train"), backgrounds=[tmp_path / "nothing"])


def test_sets_of_extras_are_drawn_equally_often(material, fruit, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        augment, "_photo", lambda photo, *a, _do=augment._photo: (drawn.append(photo), _do(photo, *a))[1]
    )
    small, large = material.photos[:1], material.photos[1:] * 5
    recipe = Recipe(mosaic_share=0, negative_share=0, paste_share=0, extra_share=1)
    generator = rng()
    for _ in range(200):
        draw_sample(dataclasses.replace(material, extras=(small, large)), recipe, 32, 127, generator)
    assert drawn.count(small[0]) / 200 == pytest.approx(0.5, abs=0.1)


@pytest.fixture
def things(tmp_path, make_split):
    """A data set of another class."""
    make_split(tmp_path, [[(0, LARGE)], [(0, LARGE)]], classes=("chair",))
    return read_dataset(tmp_path)


@pytest.mark.parametrize("shares", [{"other_share": 1, "other_photos": 0}, {"other_share": 0, "other_photos": 1}])
def test_other_things_are_pasted_and_shown_in_their_own_photos(fruit, backgrounds, things, shares):
    material = gather(read_dataset(fruit, "train"), others=[things], backgrounds=[backgrounds])
    assert [len(cutouts) for cutouts in material.other_cutouts] == [2]
    recipe = Recipe(mosaic_share=0, negative_share=1, paste_share=0, extra_share=0, **shares)
    found = [
        {instance.class_id for instance in draw_sample(material, recipe, 96, 127, rng(seed)).instances()}
        for seed in range(20)
    ]
    assert set().union(*found) == {OTHER}
    assert np.mean([bool(ids) for ids in found]) > 0.6


def test_objects_of_the_classes_keep_their_class_among_other_things(fruit):
    own = read_dataset(fruit, "train")
    material = gather(own, others=[own])
    assert material.other_cutouts == ()
    assert {annotation.class_id for photo in material.others[0] for annotation in photo.annotations} == {1}


def without(material, *names):
    return dataclasses.replace(material, **dict.fromkeys(names, ()))


@pytest.mark.parametrize(
    ("missing", "wanted"),  # negatives, pasted, extras, photos
    [
        ((), [0.15, 0.3, 0.15, 0.4]),
        (("extras",), [0.15, 0.3, 0, 0.55]),
        (("cutouts",), [0.15, 0, 0.15, 0.7]),
        (("backgrounds",), [0, 0, 0.15, 0.85]),
        (("extras", "cutouts", "backgrounds"), [0, 0, 0, 1]),
    ],
)
def test_photos_take_the_share_of_what_is_missing(material, missing, wanted):
    recipe = Recipe(negative_share=0.15, paste_share=0.3, extra_share=0.15)
    assert augment._shares(without(material, *missing), recipe) == pytest.approx(wanted)


def test_samples_come_in_the_shares_of_the_recipe(material, monkeypatch):
    monkeypatch.setattr(augment, "jitter_colour", lambda image, rng: image)
    drawn = []
    for name in ("_photo", "_background", "_paste_some"):
        original = getattr(augment, name)
        monkeypatch.setattr(augment, name, lambda *a, _name=name, _do=original: (drawn.append(_name), _do(*a))[1])
    recipe = Recipe(mosaic_share=0, negative_share=0.2, paste_share=0.3, extra_share=0.1, paste_onto_photos=0.0)
    generator = rng()
    scenes = [draw_sample(material, recipe, 64, 127, generator) for _ in range(400)]
    assert drawn.count("_background") / 400 == pytest.approx(0.5, abs=0.08)
    assert drawn.count("_paste_some") / 400 == pytest.approx(0.3, abs=0.08)
    green = [is_green(scene) for scene in scenes]
    assert np.mean(green) > 0.35, "backgrounds are seen"
    empty_and_green = [g and not scene.masks for g, scene in zip(green, scenes, strict=True)]
    assert np.mean(empty_and_green) == pytest.approx(0.2, abs=0.1), "negatives show no instance"


def test_pasting_onto_photos_adds_instances(material):
    recipe = Recipe(mosaic_share=0, negative_share=0, paste_share=0, extra_share=0)
    plain, more = (
        np.mean(
            [
                len(
                    draw_sample(
                        material, dataclasses.replace(recipe, paste_onto_photos=share), 64, 127, rng(seed)
                    ).masks
                )
                for seed in range(40)
            ]
        )
        for share in (0.0, 1.0)
    )
    assert more > plain + 0.5


def test_a_sample_has_the_asked_size_and_matching_masks(material):
    for seed in range(20):
        scene = draw_sample(material, Recipe(), 96, 127, rng(seed))
        assert scene.image.shape == (96, 96, 3)
        assert scene.image.dtype == np.uint8
        assert len(scene.masks) == len(scene.class_ids) == len(scene.areas)
        assert all(mask.shape == (96, 96) for mask in scene.masks)


def test_the_same_seed_draws_the_same_sample(material):
    for seed in range(6):
        first, again = (draw_sample(material, Recipe(), 96, 127, rng(seed)) for _ in range(2))
        assert first.image.tobytes() == again.image.tobytes()
        assert [mask.tobytes() for mask in first.masks] == [mask.tobytes() for mask in again.masks]
    assert len({draw_sample(material, Recipe(), 96, 127, rng(seed)).image.tobytes() for seed in range(6)}) == 6


@pytest.mark.parametrize("kind", ["photos", "extras", "pasted"])
def test_orange_stays_orange_and_blue_blue_from_file_to_sample(material, kind):
    recipe = Recipe(
        negative_share=0,
        paste_share=1.0 if kind == "pasted" else 0,
        extra_share=1.0 if kind == "extras" else 0,
        paste_onto_photos=0.5,
    )
    inside, outside = [], []
    for seed in range(25):
        scene = draw_sample(material, recipe, 96, 127, rng(seed))
        covered = np.zeros((96, 96), bool)
        for mask in scene.masks:
            inside.append(scene.image[mask > 250].reshape(-1, 3))
            covered |= mask > 0
        outside.append(scene.image[~covered])
    red, green, blue = np.concatenate(inside).mean(axis=0)
    assert red > green + 40 > blue + 80
    red, green, blue = np.concatenate(outside).mean(axis=0)
    assert (green > red + 40 and green > blue + 40) if kind == "pasted" else blue > red + 40


@pytest.mark.parametrize("colour", [(220, 60, 30), (30, 60, 220)])
def test_colour_jitter_keeps_the_order_of_the_channels(colour):
    picture = np.full((32, 32, 3), colour, np.uint8)
    greys = 0
    for seed in range(200):
        means = jitter_colour(picture, rng(seed)).reshape(-1, 3).mean(axis=0)
        if np.ptp(means) < 12:
            greys += 1
        else:
            assert np.argsort(means).tolist() == np.argsort(colour).tolist(), seed
    assert greys < 20
    assert (picture == colour).all(), "the picture itself is left alone"


def test_light_jitter_keeps_the_order_of_the_channels():
    picture = np.full((8, 8, 3), (200, 120, 40), np.uint8)
    results = [jitter_light(picture, rng(seed))[0, 0] for seed in range(30)]
    red, green, blue = np.mean(results, axis=0)
    assert red > 1.2 * green > 1.4 * blue
    assert len({tuple(result) for result in results}) > 20


def test_a_variety_has_other_colours_or_fewer_ribs_and_nothing_bleeds_in():
    ribbed = np.full((60, 60, 3), (40, 60, 220), np.uint8)  # blue around, which must not bleed in
    ribbed[10:50, 10:50] = (220, 120, 20)
    ribbed[10:50, 12:50:8] = (110, 60, 10)
    alpha = np.zeros((60, 60), np.uint8)
    alpha[10:50, 10:50] = 255
    before = ribbed.copy()
    ribs, orders = [], []
    for seed in range(60):
        inside = vary(ribbed, alpha, rng(seed))[10:50, 10:50].astype(float)
        ribs.append(inside[:, 10:30].mean(axis=-1).std())
        red, green, blue = inside.reshape(-1, 3).mean(axis=0)
        assert blue < 0.5 * max(red, green), seed
        orders.append(green / red)
    plain = ribbed[10:50, 20:40].astype(float).mean(axis=-1).std()
    assert 0.2 < np.mean(np.array(ribs) < 0.6 * plain) < 0.9, "some lose their ribs, some do not"
    assert max(orders) > 0.75 and min(orders) < 0.4, "some become yellow, some red"
    assert (ribbed == before).all(), "the picture itself is left alone"


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_objects_of_a_photo_are_varied_in_place(material, monkeypatch, share):
    monkeypatch.setattr(augment, "jitter_colour", lambda image, rng: image)
    monkeypatch.setattr(augment, "vary", lambda image, alpha, rng: np.full_like(image, (0, 0, 255)))
    recipe = Recipe(0, 0, 0, 0, paste_onto_photos=0, varied_share=share)
    scene = draw_sample(material, recipe, 160, 127, rng(3))
    inside = np.max(scene.masks, axis=0) == 255
    blue = (scene.image == (0, 0, 255)).all(axis=-1)
    assert inside.any()
    assert blue[inside].all() if share else not blue.any()
    assert not blue[np.max(scene.masks, axis=0) == 0].any()


def test_a_photo_that_fits_is_not_cut(material, monkeypatch):
    monkeypatch.setattr(augment, "jitter_colour", lambda image, rng: image)
    recipe = Recipe(0, 0, 0, 0, photo_scale=(0.5, 0.5001), paste_onto_photos=0, stretch=1.0001)
    for seed in range(10):
        scene = draw_sample(material, recipe, 160, 127, rng(seed))
        covered = (scene.image != 127).any(axis=-1).mean()
        assert covered == pytest.approx(0.25 * 120 / 160, rel=0.15)


@pytest.mark.parametrize("stretch", [1.0, 1.5])
def test_photos_become_wider_or_narrower(material, monkeypatch, stretch):
    monkeypatch.setattr(augment, "affinity", lambda *a, _do=augment.affinity: (drawn.append(_do(*a)), drawn[-1])[1])
    drawn = []
    recipe = Recipe(0, 0, 0, 0, paste_onto_photos=0, stretch=stretch)
    for seed in range(12):
        draw_sample(material, recipe, 96, 127, rng(seed))
    ratios = [np.linalg.norm(matrix[:, 0]) / np.linalg.norm(matrix[:, 1]) for matrix in drawn]
    assert max(ratios) <= stretch * 1.001
    assert min(ratios) >= 0.999 / stretch
    assert max(ratios) >= 1 + 0.5 * (stretch - 1)
    assert min(ratios) <= 1 - 0.2 * (stretch - 1)


def test_material_without_backgrounds_still_gives_samples(fruit):
    material = gather(read_dataset(fruit, "train"))
    assert isinstance(material, Material)
    for seed in range(5):
        assert draw_sample(material, Recipe(), 64, 127, rng(seed)).image.shape == (64, 64, 3)


def test_a_mosaic_shows_four_samples(material, monkeypatch):
    drawn = []
    monkeypatch.setattr(augment, "_draw", lambda *a, _do=augment._draw: (drawn.append(_do(*a)), drawn[-1])[1])
    scene = draw_sample(material, Recipe(mosaic_share=1), 96, 127, rng())
    assert [quarter.image.shape for quarter in drawn] == [(48, 48, 3)] * 4
    assert (scene.image[:48, 48:] == drawn[1].image).all()
    assert (scene.image[48:, :48] == drawn[2].image).all()
    assert len(scene.masks) == sum(len(quarter.masks) for quarter in drawn)


def test_photos_of_many_objects_are_drawn_more_often(material, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        augment, "_photo", lambda photo, *a, _do=augment._photo: (drawn.append(photo), _do(photo, *a))[1]
    )
    few, *_, many = sorted(material.photos, key=lambda photo: len(photo.annotations))
    assert len(many.annotations) > len(few.annotations)
    generator = rng()
    for _ in range(200):
        draw_sample(dataclasses.replace(material, photos=(few, many)), Recipe(0, 0, 0, 0), 32, 127, generator)
    odds = ((1 + len(many.annotations)) / (1 + len(few.annotations))) ** 0.5
    assert drawn.count(many) / 200 == pytest.approx(odds / (1 + odds), abs=0.1)


def test_other_things_are_shown_without_backgrounds_too(fruit, things):
    material = gather(read_dataset(fruit, "train"), others=[things])
    recipe = Recipe(mosaic_share=0, negative_share=1, paste_share=0, extra_share=0, other_share=0)
    found = [draw_sample(material, recipe, 96, 127, rng(seed)).instances() for seed in range(20)]
    assert {instance.class_id for instances in found for instance in instances} == {OTHER}


def test_extras_may_have_fewer_classes_in_another_order(tmp_path, make_split):
    for name, classes in (("own", ("apple", "pear", "pumpkin")), ("extra", ("pumpkin", "apple"))):
        make_split(tmp_path / name, [[(0, LARGE), (1, LARGE)]], classes=classes)
    own, extra = (read_dataset(tmp_path / name) for name in ("own", "extra"))
    (photos,) = gather(own, extras=[extra]).extras
    for photo, before in zip(photos, extra.photos, strict=True):
        for annotation, original in zip(photo.annotations, before.annotations, strict=True):
            assert own.classes[annotation.class_id - 1] == extra.classes[original.class_id - 1]
