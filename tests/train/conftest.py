"""What the tests of data sets share: a flat set of two classes, and changes to a json file."""

import json

import cv2
import numpy as np
import pytest


def edit(folder, change):
    path = folder / "annotations.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.fixture(scope="session")
def edit_json():
    """Changes an annotations.json in place."""
    return edit


@pytest.fixture
def flat(tmp_path):
    """40 photos in one folder: two classes, one of them rare, every fourth photo a copy of the one before, darker."""
    folder = tmp_path / "in"
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for index in range(40):
        seed = index - 1 if index % 4 == 3 else index
        coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, (120, 90), interpolation=cv2.INTER_CUBIC) * (0.8 if seed != index else 1.0)
        name = f"scene{index // 8}_{index}.png"
        cv2.imwrite(str(folder / "images" / name), picture)
        images.append({"id": 7 * index, "file_name": name, "width": 120, "height": 90, "licence": "mine"})
        for n in range(1 + index % 3):
            polygon = [[10 * n, 10, 10 * n + 8, 10, 10 * n + 8, 18, 10 * n, 18]]
            category = 4 if index % 10 == 0 else 2
            more = {"bbox": [10 * n, 10, 8, 8], "area": 64, "iscrowd": int(n == 2), "quality": "good"}
            ids = {"id": len(annotations), "image_id": 7 * index, "category_id": category}
            annotations.append({**ids, "segmentation": polygon, **more})
    categories = [{"id": 4, "name": "rare"}, {"id": 2, "name": "common"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


ORANGE = (20, 120, 230)  # BGR


def draw_on_white(*ellipses, size=(200, 240), shadow=True):
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


@pytest.fixture(scope="session")
def on_white():
    """Draws a photo of objects on white; see `draw_on_white`."""
    return draw_on_white


@pytest.fixture
def grey_photo(tmp_path):
    """A grey photo of 100x80 pixels, by itself in a folder."""
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), np.full((80, 100, 3), 90, np.uint8))
    return path
