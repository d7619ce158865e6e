"""Matterport's balloon sample: its classes, small; and models of a narrow profile."""

import json
import os

import cv2
import keras
import numpy as np
import pytest

from pumpseg_train.matterport import Config, Dataset


def balloon_classes(config_base, dataset_base):
    """`BalloonConfig` and `BalloonDataset` as samples/balloon/balloon.py has them, but for cv2 in place of skimage."""

    class BalloonConfig(config_base):
        NAME = "balloon"
        IMAGES_PER_GPU = 2
        NUM_CLASSES = 1 + 1
        STEPS_PER_EPOCH = 100
        DETECTION_MIN_CONFIDENCE = 0.9

    class BalloonDataset(dataset_base):
        def load_balloon(self, dataset_dir, subset):
            self.add_class("balloon", 1, "balloon")
            assert subset in ["train", "val"]
            dataset_dir = os.path.join(dataset_dir, subset)  # noqa: PTH118
            annotations = json.load(open(os.path.join(dataset_dir, "via_region_data.json")))  # noqa: PTH118, PTH123, SIM115
            annotations = list(annotations.values())
            annotations = [a for a in annotations if a["regions"]]
            for a in annotations:
                if type(a["regions"]) is dict:
                    polygons = [r["shape_attributes"] for r in a["regions"].values()]
                else:
                    polygons = [r["shape_attributes"] for r in a["regions"]]
                image_path = os.path.join(dataset_dir, a["filename"])  # noqa: PTH118
                height, width = cv2.imread(image_path).shape[:2]
                self.add_image(
                    "balloon",
                    image_id=a["filename"],
                    path=image_path,
                    width=width,
                    height=height,
                    polygons=polygons,
                )

        def load_mask(self, image_id):
            image_info = self.image_info[image_id]
            if image_info["source"] != "balloon":
                return super(self.__class__, self).load_mask(image_id)
            info = self.image_info[image_id]
            mask = np.zeros([info["height"], info["width"], len(info["polygons"])], dtype=np.uint8)
            for i, p in enumerate(info["polygons"]):
                layer = np.zeros(mask.shape[:2], np.uint8)
                points = np.stack([p["all_points_x"], p["all_points_y"]], axis=-1)
                mask[:, :, i] = cv2.fillPoly(layer, [points.astype(np.int32)], 1)
            return mask.astype(bool), np.ones([mask.shape[-1]], dtype=np.int32)

        def image_reference(self, image_id):
            info = self.image_info[image_id]
            if info["source"] == "balloon":
                return info["path"]
            return super(self.__class__, self).image_reference(image_id)

    return BalloonConfig, BalloonDataset


BalloonConfig, BalloonDataset = balloon_classes(Config, Dataset)


class TinyConfig(BalloonConfig):
    BACKBONE = "resnet50"
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 128
    STEPS_PER_EPOCH = 2
    VALIDATION_STEPS = 1
    TOP_DOWN_PYRAMID_SIZE = 16
    FPN_CLASSIF_FC_LAYERS_SIZE = 16
    PRE_NMS_LIMIT = 500
    TRAIN_ROIS_PER_IMAGE = 20


@pytest.fixture(scope="session")
def tiny_config():
    """The `BalloonConfig` of the sample for 128x128 pictures, with few steps and channels."""
    return TinyConfig


@pytest.fixture(scope="session")
def balloons(tmp_path_factory, draw_photo):
    """VIA json and photos: of the two formats that the tool has written over the years."""
    folder = tmp_path_factory.mktemp("balloon")
    turns = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    for subset, ellipses in (
        ("train", [[(60, 60, 40, 35), (120, 70, 25, 28)], [(80, 50, 30, 30)], []]),
        ("val", [[(50, 60, 30, 40)]]),
    ):
        (folder / subset).mkdir()
        content = {}
        for number, fruits in enumerate(ellipses):
            image, _ = draw_photo(fruits)
            cv2.imwrite(str(folder / subset / f"{number}.png"), image[..., ::-1])
            regions = [
                {
                    "shape_attributes": {
                        "name": "polygon",
                        "all_points_x": (x + rx * np.cos(turns)).round().astype(int).tolist(),
                        "all_points_y": (y + ry * np.sin(turns)).round().astype(int).tolist(),
                    }
                }
                for x, y, rx, ry in fruits
            ]
            as_dict = {str(index): region for index, region in enumerate(regions)}
            content[f"{number}.png1"] = {"filename": f"{number}.png", "regions": as_dict if number else regions}
        (folder / subset / "via_region_data.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="session")
def load_balloons():
    """Loads and prepares a subset with the sample's `BalloonDataset`."""

    def load(folder, subset, kind=BalloonDataset):
        dataset = kind()
        dataset.load_balloon(folder, subset)
        dataset.prepare()
        return dataset

    return load


@pytest.fixture(scope="session")
def make_model(narrow_matterport):
    """Builds the model of `narrow_matterport` for some classes, with the random weights of a seed."""
    from pumpseg_train.model.network import build_mask_rcnn

    def make(classes=("apple", "pumpkin"), seed=0):
        keras.utils.set_random_seed(seed)
        return build_mask_rcnn(narrow_matterport, classes)

    return make


@pytest.fixture(scope="session")
def written(make_model, tmp_path_factory):
    """A model and the .h5 that `save_weights` wrote of it; neither is to be changed."""
    from pumpseg_train.matterport.weights_file import save_weights

    model = make_model(seed=1)
    path = tmp_path_factory.mktemp("weights") / "apple_pumpkin.h5"
    save_weights(model, path)
    return model, path
