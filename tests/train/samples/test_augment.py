"""Training samples: their kinds, and that one seed gives one sample."""

import dataclasses

import numpy as np
import pytest

from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.dataset.class_ids import OTHER
from pumpseg_train.samples import augment
from pumpseg_train.samples.augment import draw_sample, kind_probabilities
from pumpseg_train.samples.config import AugmentationConfig
from pumpseg_train.samples.sources import SampleSources, load_sources

LARGE = (60, 60, 40, 35)


def rng(seed=0):
    return np.random.default_rng(seed)


def is_green(scene):
    red, green, blue = scene.image.reshape(-1, 3).mean(axis=0)
    return green > max(red, blue)


def test_auxiliary_sets_are_drawn_equally_often(sources, fruit, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        augment, "warp_photo", lambda photo, *a, _do=augment.warp_photo: (drawn.append(photo), _do(photo, *a))[1]
    )
    small, large = sources.photos[:1], sources.photos[1:] * 5
    config = AugmentationConfig(mosaic_prob=0, negative_prob=0, paste_prob=0, aux_prob=1)
    generator = rng()
    for _ in range(200):
        draw_sample(dataclasses.replace(sources, auxiliary=(small, large)), config, 32, 127, generator)
    assert drawn.count(small[0]) / 200 == pytest.approx(0.5, abs=0.1)


@pytest.fixture
def things(tmp_path, make_split):
    """A data set of another class."""
    make_split(tmp_path, [[(0, LARGE)], [(0, LARGE)]], classes=("chair",))
    return read_dataset(tmp_path)


@pytest.mark.parametrize(
    "shares", [{"distractor_prob": 1, "distractor_photo_prob": 0}, {"distractor_prob": 0, "distractor_photo_prob": 1}]
)
def test_distractors_are_pasted_and_shown_in_their_own_photos(fruit, backgrounds, things, shares):
    sources = load_sources(read_dataset(fruit, "train"), distractors=[things], backgrounds=[backgrounds])
    assert [len(cutouts) for cutouts in sources.distractor_cutouts] == [2]
    config = AugmentationConfig(mosaic_prob=0, negative_prob=1, paste_prob=0, aux_prob=0, **shares)
    found = [
        {instance.class_id for instance in draw_sample(sources, config, 96, 127, rng(seed)).instances()}
        for seed in range(20)
    ]
    assert set().union(*found) == {OTHER}
    assert np.mean([bool(ids) for ids in found]) > 0.6


def without(sources, *names):
    return dataclasses.replace(sources, **dict.fromkeys(names, ()))


@pytest.mark.parametrize(
    ("missing", "wanted"),  # negatives, pasted, auxiliary, photos
    [
        ((), [0.15, 0.3, 0.15, 0.4]),
        (("auxiliary",), [0.15, 0.3, 0, 0.55]),
        (("cutouts",), [0.15, 0, 0.15, 0.7]),
        (("backgrounds",), [0, 0, 0.15, 0.85]),
        (("auxiliary", "cutouts", "backgrounds"), [0, 0, 0, 1]),
    ],
)
def test_photos_take_the_probability_of_what_is_missing(sources, missing, wanted):
    config = AugmentationConfig(negative_prob=0.15, paste_prob=0.3, aux_prob=0.15)
    assert kind_probabilities(without(sources, *missing), config) == pytest.approx(wanted)


def test_samples_are_drawn_with_the_probabilities_of_the_config(sources, monkeypatch):
    monkeypatch.setattr(augment, "jitter_colour", lambda image, rng: image)
    drawn = []
    for name in ("warp_photo", "warp_background", "paste_objects"):
        original = getattr(augment, name)
        monkeypatch.setattr(augment, name, lambda *a, _name=name, _do=original: (drawn.append(_name), _do(*a))[1])
    config = AugmentationConfig(
        mosaic_prob=0, negative_prob=0.2, paste_prob=0.3, aux_prob=0.1, paste_onto_photos_prob=0.0
    )
    generator = rng()
    scenes = [draw_sample(sources, config, 64, 127, generator) for _ in range(400)]
    assert drawn.count("warp_background") / 400 == pytest.approx(0.5, abs=0.08)
    assert drawn.count("paste_objects") / 400 == pytest.approx(0.3, abs=0.08)
    green = [is_green(scene) for scene in scenes]
    assert np.mean(green) > 0.35, "backgrounds are seen"
    empty_and_green = [g and not scene.masks for g, scene in zip(green, scenes, strict=True)]
    assert np.mean(empty_and_green) == pytest.approx(0.2, abs=0.1), "negatives show no instance"


def test_pasting_onto_photos_adds_instances(sources):
    config = AugmentationConfig(mosaic_prob=0, negative_prob=0, paste_prob=0, aux_prob=0)
    plain, more = (
        np.mean(
            [
                len(
                    draw_sample(
                        sources, dataclasses.replace(config, paste_onto_photos_prob=share), 64, 127, rng(seed)
                    ).masks
                )
                for seed in range(40)
            ]
        )
        for share in (0.0, 1.0)
    )
    assert more > plain + 0.5


def test_a_sample_has_the_asked_size_and_matching_masks(sources):
    for seed in range(20):
        scene = draw_sample(sources, AugmentationConfig(), 96, 127, rng(seed))
        assert scene.image.shape == (96, 96, 3)
        assert scene.image.dtype == np.uint8
        assert len(scene.masks) == len(scene.class_ids) == len(scene.areas)
        assert all(mask.shape == (96, 96) for mask in scene.masks)


def test_the_same_seed_draws_the_same_sample(sources):
    for seed in range(6):
        first, again = (draw_sample(sources, AugmentationConfig(), 96, 127, rng(seed)) for _ in range(2))
        assert first.image.tobytes() == again.image.tobytes()
        assert [mask.tobytes() for mask in first.masks] == [mask.tobytes() for mask in again.masks]
    assert (
        len({draw_sample(sources, AugmentationConfig(), 96, 127, rng(seed)).image.tobytes() for seed in range(6)}) == 6
    )


@pytest.mark.parametrize("kind", ["photos", "auxiliary", "pasted"])
def test_orange_stays_orange_and_blue_blue_from_file_to_sample(sources, kind):
    config = AugmentationConfig(
        negative_prob=0,
        paste_prob=1.0 if kind == "pasted" else 0,
        aux_prob=1.0 if kind == "auxiliary" else 0,
        paste_onto_photos_prob=0.5,
    )
    inside, outside = [], []
    for seed in range(25):
        scene = draw_sample(sources, config, 96, 127, rng(seed))
        covered = np.zeros((96, 96), bool)
        for mask in scene.masks:
            inside.append(scene.image[mask > 250].reshape(-1, 3))
            covered |= mask > 0
        outside.append(scene.image[~covered])
    red, green, blue = np.concatenate(inside).mean(axis=0)
    assert red > green + 40 > blue + 80
    red, green, blue = np.concatenate(outside).mean(axis=0)
    assert (green > red + 40 and green > blue + 40) if kind == "pasted" else blue > red + 40


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_objects_of_a_photo_are_varied_in_place(sources, monkeypatch, share):
    monkeypatch.setattr(augment, "jitter_colour", lambda image, rng: image)
    monkeypatch.setattr(augment, "vary", lambda image, alpha, rng: np.full_like(image, (0, 0, 255)))
    config = AugmentationConfig(0, 0, 0, 0, paste_onto_photos_prob=0, variety_prob=share)
    scene = draw_sample(sources, config, 160, 127, rng(3))
    inside = np.max(scene.masks, axis=0) == 255
    blue = (scene.image == (0, 0, 255)).all(axis=-1)
    assert inside.any()
    assert blue[inside].all() if share else not blue.any()
    assert not blue[np.max(scene.masks, axis=0) == 0].any()


def test_a_photo_that_fits_is_not_cut(sources, monkeypatch):
    monkeypatch.setattr(augment, "jitter_colour", lambda image, rng: image)
    config = AugmentationConfig(0, 0, 0, 0, photo_scale=(0.5, 0.5001), paste_onto_photos_prob=0, stretch=1.0001)
    for seed in range(10):
        scene = draw_sample(sources, config, 160, 127, rng(seed))
        covered = (scene.image != 127).any(axis=-1).mean()
        assert covered == pytest.approx(0.25 * 120 / 160, rel=0.15)


@pytest.mark.parametrize("stretch", [1.0, 1.5])
def test_photos_become_wider_or_narrower(sources, monkeypatch, stretch):
    monkeypatch.setattr(augment, "affinity", lambda *a, _do=augment.affinity: (drawn.append(_do(*a)), drawn[-1])[1])
    drawn = []
    config = AugmentationConfig(0, 0, 0, 0, paste_onto_photos_prob=0, stretch=stretch)
    for seed in range(12):
        draw_sample(sources, config, 96, 127, rng(seed))
    ratios = [np.linalg.norm(matrix[:, 0]) / np.linalg.norm(matrix[:, 1]) for matrix in drawn]
    assert max(ratios) <= stretch * 1.001
    assert min(ratios) >= 0.999 / stretch
    assert max(ratios) >= 1 + 0.5 * (stretch - 1)
    assert min(ratios) <= 1 - 0.2 * (stretch - 1)


def test_sources_without_backgrounds_still_gives_samples(fruit):
    sources = load_sources(read_dataset(fruit, "train"))
    assert isinstance(sources, SampleSources)
    for seed in range(5):
        assert draw_sample(sources, AugmentationConfig(), 64, 127, rng(seed)).image.shape == (64, 64, 3)


def test_a_mosaic_shows_four_samples(sources, monkeypatch):
    drawn = []
    monkeypatch.setattr(augment, "draw_one", lambda *a, _do=augment.draw_one: (drawn.append(_do(*a)), drawn[-1])[1])
    scene = draw_sample(sources, AugmentationConfig(mosaic_prob=1), 96, 127, rng())
    assert [quarter.image.shape for quarter in drawn] == [(48, 48, 3)] * 4
    assert (scene.image[:48, 48:] == drawn[1].image).all()
    assert (scene.image[48:, :48] == drawn[2].image).all()
    assert len(scene.masks) == sum(len(quarter.masks) for quarter in drawn)


def test_photos_of_many_objects_are_drawn_more_often(sources, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        augment, "warp_photo", lambda photo, *a, _do=augment.warp_photo: (drawn.append(photo), _do(photo, *a))[1]
    )
    few, *_, many = sorted(sources.photos, key=lambda photo: len(photo.annotations))
    assert len(many.annotations) > len(few.annotations)
    generator = rng()
    for _ in range(200):
        draw_sample(
            dataclasses.replace(sources, photos=(few, many)), AugmentationConfig(0, 0, 0, 0), 32, 127, generator
        )
    odds = ((1 + len(many.annotations)) / (1 + len(few.annotations))) ** 0.5
    assert drawn.count(many) / 200 == pytest.approx(odds / (1 + odds), abs=0.1)


def test_distractors_are_shown_without_backgrounds_too(fruit, things):
    sources = load_sources(read_dataset(fruit, "train"), distractors=[things])
    config = AugmentationConfig(mosaic_prob=0, negative_prob=1, paste_prob=0, aux_prob=0, distractor_prob=0)
    found = [draw_sample(sources, config, 96, 127, rng(seed)).instances() for seed in range(20)]
    assert {instance.class_id for instances in found for instance in instances} == {OTHER}
