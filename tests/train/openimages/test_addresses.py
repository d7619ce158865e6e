"""Where the files of Open Images are."""

import pytest

from pumpseg_train.openimages.addresses import SPLITS, Addresses, file_name


@pytest.mark.parametrize("split", SPLITS)
def test_every_file_is_on_the_mirror_that_was_named(split):
    mirror = Addresses("http://tables", "http://photos")
    tables = [mirror.boxes(split), mirror.masks(split), mirror.archive(split, "a"), mirror.class_names]
    assert all(url.startswith("http://tables/v") for url in tables)
    assert mirror.image(split, "0a") == f"http://photos/{split}/0a.jpg"
    assert file_name(mirror.archive(split, "f")) == f"{split}-masks-f.zip"


def test_the_boxes_of_train_are_those_of_version_6():
    assert Addresses().boxes("train") == "https://storage.googleapis.com/openimages/v6/oidv6-train-annotations-bbox.csv"
