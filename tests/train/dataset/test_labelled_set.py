"""Classes are renamed, chosen and sorted, and annotations follow them."""

from pathlib import Path

import numpy as np
import pytest

from pumpseg.errors import DatasetError
from pumpseg_train.dataset.labelled_set import (
    Annotation,
    LabelledSet,
    Photo,
    choose_classes,
    sort_classes,
    without_crowds,
)

SQUARE = [[1, 1, 5, 1, 5, 5, 1, 5]]


def labelled_set(*class_ids, crowd=False):
    annotations = tuple(Annotation(class_id, SQUARE, crowd) for class_id in class_ids)
    photos = {"train": (Photo(Path("a.jpg"), 8, 6, annotations),), "val": (Photo(Path("b.jpg"), 8, 6),)}
    return LabelledSet(("plum", "apple", "pear"), photos)


def names(labelled):
    return [labelled.name_of(annotation) for photo in labelled.photos for annotation in photo.annotations]


def test_photos_are_those_of_all_splits_in_order():
    assert [photo.path.name for photo in labelled_set(1).photos] == ["a.jpg", "b.jpg"]


def test_the_mask_has_the_pixels_of_the_polygon():
    mask = Annotation(1, SQUARE).mask(8, 6)
    assert (mask.shape, mask.dtype) == ((6, 8), np.uint8)
    assert mask.sum() == mask[1:5, 1:5].sum() == 16


def test_classes_are_kept_in_the_order_given_and_others_left_out():
    chosen = choose_classes(labelled_set(1, 2, 3, 2), ["pear", "plum"])
    assert chosen.classes == ("pear", "plum")
    assert names(chosen) == ["plum", "pear"]


def test_several_classes_may_get_one_name():
    joined = choose_classes(labelled_set(1, 2, 3), [], {"plum": "stone fruit", "apple": "stone fruit"})
    assert joined.classes == ("stone fruit", "pear")
    assert names(joined) == ["stone fruit", "stone fruit", "pear"]


@pytest.mark.parametrize(
    ("chosen", "renamed", "message"),
    [
        (["kiwi"], {}, "there is no class 'kiwi': there are plum, apple, pear"),
        ([], {"kiwi": "fig"}, "there is no class 'kiwi' to rename: there are plum, apple, pear"),
    ],
)
def test_a_class_that_does_not_occur_is_named(chosen, renamed, message):
    with pytest.raises(DatasetError, match=message):
        choose_classes(labelled_set(1), chosen, renamed)


def test_of_many_classes_ten_are_listed():
    many = LabelledSet(tuple(f"c{number}" for number in range(14)), {})
    with pytest.raises(DatasetError, match=r"there are c0, .*c9 and 4 more"):
        choose_classes(many, ["kiwi"])


def test_only_classes_that_occur_are_left_after_sorting():
    sorted_set = sort_classes(labelled_set(1, 2, 1))
    assert sorted_set.classes == ("apple", "plum")
    assert names(sorted_set) == ["plum", "apple", "plum"]


def test_crowd_regions_are_counted_and_left_out_with_a_note():
    crowds = labelled_set(1, 2, crowd=True)
    assert (crowds.count("train"), crowds.count("train", crowd=True)) == (0, 2)
    left = without_crowds(crowds, "this format has none")
    assert left.photos[0].annotations == ()
    assert left.notes == ("crowd regions left out because this format has none: 2",)
    instances = labelled_set(1)
    assert without_crowds(instances, "") is instances
