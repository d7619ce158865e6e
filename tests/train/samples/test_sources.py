"""What is cut out, which class it has, and what is refused."""

import dataclasses

import cv2
import numpy as np
import pytest

from pumpseg.errors import DatasetError
from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.samples.sources import load_sources

LARGE = (60, 60, 40, 35)


def test_load_sources_cuts_out_what_is_large_enough(sources):
    (cutouts,) = sources.cutouts
    assert len(cutouts) == 3, "all of the train split but the smallest"
    assert all(max(cutout.alpha.shape) >= 48 for cutout in cutouts)
    assert len(sources.photos) == 3
    assert [len(photos) for photos in sources.auxiliary] == [2]
    assert [len(folder) for folder in sources.backgrounds] == [2]


def test_load_sources_leaves_out_fragments(tmp_path, make_split):
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
        changed_photo = dataclasses.replace(photo, annotations=(annotation,))
        changed = dataclasses.replace(dataset, splits={"train": (changed_photo,)})
        assert sum(len(cutouts) for cutouts in load_sources(changed).cutouts) == kept


def test_load_sources_leaves_out_crowds_and_classes_that_are_not_learnt(tmp_path, make_split, fruit):
    make_split(tmp_path, [[(0, LARGE)], [(1, LARGE)]], classes=("apple", "pumpkin"))
    sources = load_sources(read_dataset(fruit, "train"), paste_from=[read_dataset(tmp_path)])
    own, others = sources.cutouts
    assert len(others) == 1
    assert {cutout.class_id for cutout in own + others} == {1}, "pumpkin is class 2 of one set and 1 of the other"

    photo = read_dataset(tmp_path).photos[1]
    crowd = dataclasses.replace(photo, annotations=(dataclasses.replace(photo.annotations[0], crowd=True),))
    assert load_sources(dataclasses.replace(read_dataset(tmp_path), splits={"train": (crowd,)})).cutouts == ()


def test_load_sources_refuses_auxiliary_sets_of_other_classes_and_empty_backgrounds(tmp_path, make_split, fruit):
    make_split(tmp_path, [[]], classes=("apple",))
    with pytest.raises(DatasetError, match=r"has the class 'apple', which .* has not"):
        load_sources(read_dataset(fruit, "train"), auxiliary=[read_dataset(tmp_path)])
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DatasetError, match="holds no images"):
        load_sources(read_dataset(fruit, "train"), backgrounds=[tmp_path / "nothing"])


def test_objects_of_the_classes_keep_their_class_among_distractors(fruit):
    own = read_dataset(fruit, "train")
    sources = load_sources(own, distractors=[own])
    assert sources.distractor_cutouts == ()
    assert {annotation.class_id for photo in sources.distractors[0] for annotation in photo.annotations} == {1}


def test_auxiliary_sets_may_have_fewer_classes_in_another_order(tmp_path, make_split):
    for name, classes in (("own", ("apple", "pear", "pumpkin")), ("extra", ("pumpkin", "apple"))):
        make_split(tmp_path / name, [[(0, LARGE), (1, LARGE)]], classes=classes)
    own, extra = (read_dataset(tmp_path / name) for name in ("own", "extra"))
    (photos,) = load_sources(own, auxiliary=[extra]).auxiliary
    for photo, before in zip(photos, extra.photos, strict=True):
        for annotation, original in zip(photo.annotations, before.annotations, strict=True):
            assert own.classes[annotation.class_id - 1] == extra.classes[original.class_id - 1]


def test_a_distractor_photo_is_background_also_where_it_is_labelled_in_part(tmp_path, make_split, fruit):
    make_split(tmp_path, [[(0, LARGE)]], classes=("ball",))
    things = read_dataset(tmp_path)
    photos = tuple(dataclasses.replace(photo, record={"partly_labelled": True}) for photo in things.photos)
    things = dataclasses.replace(things, splits={"train": photos})
    loaded = load_sources(read_dataset(fruit, "train"), distractors=[things])
    assert not loaded.distractors[0][0].partly_labelled
