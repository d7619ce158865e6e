"""The figures of the profiles, and ones that do not fit together."""

import dataclasses

import pytest

from pumpseg_train.model.profile import EDGE, EDGE_COMPAT, MATTERPORT_COMPAT, PROFILES


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_size": (384, 100)}, "input size 100x384: sides must be multiples of 32"),
        ({"input_size": (0, 32)}, "multiples of 32"),
        ({"strides": (8, 16)}, "3 anchor levels and 3 names for 2 strides"),
        ({"anchor_sizes": ((1,), (0,), (2,))}, "anchor sizes must be positive"),
    ],
)
def test_figures_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(EDGE, **changes)


def test_the_matterport_profiles_differ_from_edge_in_every_convention():
    edge, matterport = (dataclasses.asdict(compat) for compat in (EDGE_COMPAT, MATTERPORT_COMPAT))
    assert all(edge[name] != matterport[name] for name in edge)
    assert {name: profile.compat for name, profile in PROFILES.items()} == {
        "edge": EDGE_COMPAT,
        "matterport-resnet50": MATTERPORT_COMPAT,
        "matterport-resnet101": MATTERPORT_COMPAT,
    }


def test_sizes_that_follow_from_others():
    assert (EDGE.anchors_per_cell, EDGE.mask_size) == (9, 28)
