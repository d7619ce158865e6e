"""What the tests of the formats share: photos, COCO json, and the masks of what was written."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pumpseg_train.dataset.annotations import read_dataset


def write_photo(folder, name="a.png", size=(12, 16), orientation=None):
    """A grey image file of (h, w) stored pixels."""
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.full((*size, 3), 90, np.uint8))
    exif = image.getexif()
    if orientation:
        exif[0x0112] = orientation
    image.save(path, exif=exif)
    return path


def read_masks(path):
    """{file name: [(class, crowd, mask)]} of every split of a data set of ours."""
    found = {}
    for folder in sorted(path.iterdir()):
        dataset = read_dataset(folder)
        for one in dataset.photos:
            found[folder.name, one.path.name] = [
                (dataset.name_of(a), a.crowd, a.mask(one.width, one.height).astype(bool)) for a in one.annotations
            ]
    return found


def assert_same(left, right):
    def key(entry):
        return entry[0], entry[1], entry[2].tobytes()

    assert left.keys() == right.keys()
    for name in left:
        assert sorted(map(key, left[name])) == sorted(map(key, right[name])), name


def write_coco(folder, images, annotations):
    """annotations.json with the categories 5 (b) and 2 (a)."""
    categories = [{"id": 5, "name": "b"}, {"id": 2, "name": "a"}]
    folder.mkdir(parents=True, exist_ok=True)
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))


def write_instances(source, *names):
    """annotations/instances_NAME.json of one photo, x.png, each, and no photos."""
    write_coco(source, [{"id": 1, "file_name": "x.png", "width": 8, "height": 8}], [])
    (source / "annotations").mkdir()
    for name in names:
        (source / "annotations" / f"instances_{name}.json").write_text((source / "annotations.json").read_text())
    (source / "annotations.json").unlink()


def write_via(folder, regions, name="via_region_data.json", wrap=lambda entries: entries):
    """VIA json of one photo of 50x40 pixels."""
    write_photo(folder, "a.png", (40, 50))
    entry = {"filename": "a.png", "size": 1, "regions": regions, "file_attributes": {}}
    (folder / name).write_text(json.dumps(wrap({"a.png1": entry})))


def write_labelme(folder, shapes, size=(40, 50), **options):
    """A photo and its labelme json."""
    write_photo(folder, "a.jpg", size, **options)
    content = {"imagePath": "a.jpg", "imageHeight": size[0], "imageWidth": size[1], "imageData": None, "shapes": shapes}
    (folder / "a.json").write_text(json.dumps(content))


def write_yolo(root, line="0 0.2 0.125 0.4 0.125 0.4 0.625 0.2 0.625", settings="names: [a, b]\ntrain: images/train\n"):
    """One photo of 50x40 pixels with its text file, and a data.yaml."""
    write_photo(root / "images" / "train", "a.png", (40, 50))
    (root / "labels" / "train").mkdir(parents=True, exist_ok=True)
    (root / "labels" / "train" / "a.txt").write_text(line + "\n")
    if settings:
        (root / "data.yaml").write_text(settings)


@pytest.fixture(scope="session")
def photo():
    """See `write_photo`."""
    return write_photo


@pytest.fixture(scope="session")
def masks_of():
    """See `read_masks`."""
    return read_masks


@pytest.fixture(scope="session")
def same():
    """See `assert_same`."""
    return assert_same


@pytest.fixture(scope="session")
def coco():
    """See `write_coco`."""
    return write_coco


@pytest.fixture(scope="session")
def instances():
    """See `write_instances`."""
    return write_instances


@pytest.fixture(scope="session")
def via():
    """See `write_via`."""
    return write_via


@pytest.fixture(scope="session")
def labelme():
    """See `write_labelme`."""
    return write_labelme


@pytest.fixture(scope="session")
def yolo():
    """See `write_yolo`."""
    return write_yolo
