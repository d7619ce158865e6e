"""A `Dataset` and a `Config` as in Matterport's balloon sample, trained as its script trains them."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from pumpseg.errors import DatasetError
from pumpseg_train.matterport import Config, Dataset, MaskRCNN
from pumpseg_train.matterport.config import ConfigError, to_profile
from pumpseg_train.matterport.dataset import Batches, fit_square, mask_boxes
from pumpseg_train.matterport.mask_rcnn import TrainingError


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


@pytest.fixture(scope="module")
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


def load(folder, subset, kind=BalloonDataset):
    dataset = kind()
    dataset.load_balloon(folder, subset)
    dataset.prepare()
    return dataset


def test_the_balloon_sample_trains_is_resumed_and_detects(balloons, tmp_path, step_by_step, capsys):
    config = TinyConfig()
    model = MaskRCNN(mode="training", config=config, model_dir=tmp_path / "logs")
    frozen = model.network.trunk.get_layer("conv1").get_weights()[0].copy()
    trained = model.network.trunk.get_layer("fpn_p2").get_weights()[0].copy()
    means = model.network.box_head.get_layer("mrcnn_class_bn1").get_weights()[2].copy()
    data = load(balloons, "train"), load(balloons, "val")
    model.train(*data, learning_rate=config.LEARNING_RATE, epochs=1, layers="heads")
    assert (model.network.trunk.get_layer("conv1").get_weights()[0] == frozen).all()
    assert not (model.network.trunk.get_layer("fpn_p2").get_weights()[0] == trained).all()
    assert (model.network.box_head.get_layer("mrcnn_class_bn1").get_weights()[2] == means).all(), "norms are frozen"
    history = (model.log_dir / "history.csv").read_text().splitlines()
    assert {"loss", "rpn_class_loss", "mrcnn_mask_loss", "val_loss"} <= set(history[0].split(","))
    assert all(np.isfinite(float(value)) for value in history[1].split(","))

    last = model.find_last()
    assert Path(last).name == "mask_rcnn_balloon_0001.h5"
    again = MaskRCNN(mode="training", config=config, model_dir=tmp_path / "logs")
    again.load_weights(last, by_name=True)
    assert (again.epoch, again.log_dir) == (1, model.log_dir)
    with pytest.raises(TrainingError, match="1 epochs are done already"):
        again.train(*data, learning_rate=0.001, epochs=1, layers="all")

    class InferenceConfig(TinyConfig):
        GPU_COUNT = IMAGES_PER_GPU = 1
        DETECTION_MIN_CONFIDENCE = 0

    found = MaskRCNN(mode="inference", config=InferenceConfig(), model_dir=tmp_path)
    found.load_weights(last)
    image = data[1].load_image(0)
    result = found.detect([image])[0]
    count = len(result["scores"])
    assert result["rois"].shape == (count, 4)
    assert result["masks"].shape == (*image.shape[:2], count)
    assert set(result["class_ids"]) <= {1}
    assert found.predict is found.predict, "traced once"
    head = found.network.box_head.get_layer("mrcnn_class_logits")
    head.set_weights([np.zeros_like(weight) for weight in head.get_weights()])
    assert np.allclose(found.detect([image])[0]["scores"], 0.5), "weights that come later count"
    assert "133 layers loaded" in capsys.readouterr().out


def test_training_says_what_does_not_fit(balloons, tmp_path):
    class TwoClasses(TinyConfig):
        NUM_CLASSES = 3

    data = load(balloons, "train")
    model = MaskRCNN("training", TwoClasses(), tmp_path)
    with pytest.raises(TrainingError, match="has 2 classes with the background, NUM_CLASSES says 3"):
        model.train(data, data, 0.001, 1, "heads")
    model = MaskRCNN("training", TinyConfig(), tmp_path)
    with pytest.raises(TrainingError, match="'hesds' matches no layer; stages are heads, "):
        model.train(data, data, 0.001, 1, "hesds")
    with pytest.raises(TrainingError, match="no checkpoint mask_rcnn_balloon_"):
        model.find_last()
    with pytest.raises(ConfigError, match="the mode must be"):
        MaskRCNN("eval", TinyConfig(), tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("BACKBONE", lambda image: image, "BACKBONE = .* is not supported, only resnet50 and resnet101"),
        ("IMAGE_RESIZE_MODE", "pad64", "IMAGE_RESIZE_MODE = 'pad64' is not supported, only 'square'"),
        ("IMAGE_MAX_DIM", 1000, "IMAGE_MAX_DIM = 1000 must be a multiple of 64, such as 1024"),
        ("MASK_SHAPE", [56, 56], r"MASK_SHAPE = \[56, 56\] must be twice MASK_POOL_SIZE = 14"),
        ("RPN_ANCHOR_SCALES", (8, 16, 32), "3 anchor levels"),
    ],
)
def test_settings_without_an_equal_are_named(name, value, message):
    with pytest.raises(ConfigError, match=message):
        to_profile(type("Odd", (TinyConfig,), {name: value})())


def test_a_config_becomes_a_profile():
    class Own(Config):
        BACKBONE = "resnet101"
        IMAGE_MIN_DIM, IMAGE_MAX_DIM = 512, 640
        RPN_ANCHOR_SCALES = (8, 16, 32, 64, 128)
        BBOX_STD_DEV = np.array([0.1, 0.2, 0.3, 0.4])
        DETECTION_MIN_CONFIDENCE = 0.5

    profile = to_profile(Own())
    assert (profile.backbone, profile.input_size, profile.letterbox.min_side) == ("resnet101", (640, 640), 512)
    assert profile.anchor_sizes == ((8,), (16,), (32,), (64,), (128,))
    assert profile.box_deltas_std == (0.2, 0.1, 0.4, 0.3), "x before y"
    assert profile.score_threshold == 0.5


def test_batches_hold_what_the_data_set_shows(balloons):
    config, data = TinyConfig(), load(balloons, "train")
    batches = Batches(data, config, to_profile(config), steps=2)
    (batch,) = batches[0]
    assert batch["image"].shape == (2, 128, 128, 3)
    assert batch["image"].dtype == np.uint8
    assert sorted((batch["class_ids"] > 0).sum(axis=1)) == [1, 2], "two photos of a pass, in any order"
    row = int((batch["class_ids"] > 0).sum(axis=1).argmax())
    # 160x120 becomes 128x96 with 16 above; the larger ellipse reaches from (20, 25) to (100, 95)
    larger = batch["boxes"][row][np.prod(batch["boxes"][row][:, 2:] - batch["boxes"][row][:, :2], axis=1).argmax()]
    assert np.abs(larger - [16, 36, 80.8, 92.8]).max() <= 1.5
    assert batch["active"].tolist() == [[1, 1]] * 2
    assert 0.7 < batch["mini_masks"][row, 0].mean() < 0.85, "an ellipse fills pi / 4 of its box"
    assert (batch["anchor_match"] == 1).any()
    repeated = Batches(data, config, to_profile(config), steps=2)[0][0]
    assert all((batch[name] == repeated[name]).all() for name in batch)


def test_images_that_cannot_be_loaded_are_named(balloons):
    data = load(balloons, "train")
    for info in data.image_info:
        info["path"] = "/nowhere/gone.png"
    with pytest.raises(DatasetError, match=r"image \d \(/nowhere/gone.png\) cannot be loaded: .*cannot read the image"):
        Batches(data, TinyConfig(), to_profile(TinyConfig()), steps=1)[0]


def test_masks_without_a_class_number_are_named(balloons):
    data = load(balloons, "train")
    whole = data.load_mask
    data.load_mask = lambda image_id: (whole(image_id)[0], np.zeros(0, np.int32))
    with pytest.raises(DatasetError, match=r"image \d .*load_mask\(\) gave \d+ masks and 0 class numbers"):
        Batches(data, TinyConfig(), to_profile(TinyConfig()), steps=1)[0]


def test_masks_of_another_size_are_refused():
    profile = to_profile(TinyConfig())
    with pytest.raises(DatasetError, match=r"load_mask\(\) must return \(H, W, N\)"):
        fit_square(np.zeros((20, 30, 3), np.uint8), np.zeros((30, 20, 1), bool), profile)
    with pytest.raises(DatasetError, match=r"load_image\(\) must return uint8"):
        fit_square(np.zeros((20, 30, 3), np.float32), np.zeros((20, 30, 1), bool), profile)


def test_boxes_end_after_the_last_pixel():
    masks = np.zeros((10, 12, 1), bool)
    masks[2:5, 3:9, 0] = True
    assert mask_boxes(masks).tolist() == [[3, 2, 9, 5]]


def test_augmentation_changes_image_and_masks_alike(balloons):
    config, data = TinyConfig(), load(balloons, "train")

    def flip(image, masks):
        return image[:, ::-1], masks[:, ::-1]

    profile = to_profile(config)
    (plain,), (flipped,) = (Batches(data, config, profile, steps=1, augmentation=a)[0] for a in (None, flip))
    assert (plain["image"][:, :, ::-1] == flipped["image"]).all()
    assert np.allclose(128 - plain["boxes"][:, 0, 0], flipped["boxes"][:, 0, 2])


def test_real_balloons_are_read():
    folder = Path(os.environ.get("PUMPSEG_DATA", "")) / "balloon"
    if not (folder / "train" / "via_region_data.json").is_file():
        pytest.skip("PUMPSEG_DATA names no folder with balloon/")
    data = load(folder, "train")
    assert (len(data.image_ids), data.class_names) == (61, ["BG", "balloon"])
    config = TinyConfig()
    (batch,) = Batches(data, config, to_profile(config), steps=1)[0]
    assert (batch["class_ids"] > 0).any(axis=1).all()


def test_class_numbers_out_of_range_are_named(balloons):
    data = load(balloons, "train")
    whole = data.load_mask
    data.load_mask = lambda image_id: (whole(image_id)[0], np.full(whole(image_id)[0].shape[-1], 7, np.int32))
    with pytest.raises(DatasetError, match=r"image \d .*load_mask\(\) gave the class number 7, not 1\.\.1"):
        Batches(data, TinyConfig(), to_profile(TinyConfig()), steps=1)[0]
