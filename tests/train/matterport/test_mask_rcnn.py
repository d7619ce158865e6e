"""A `Dataset` and a `Config` as in Matterport's balloon sample, trained as its script trains them."""

from pathlib import Path

import numpy as np
import pytest

from pumpseg_train.matterport import MaskRCNN
from pumpseg_train.matterport.config import ConfigError
from pumpseg_train.matterport.mask_rcnn import TrainingError


def test_the_balloon_sample_trains_is_resumed_and_detects(
    balloons, tmp_path, step_by_step, capsys, tiny_config, load_balloons
):
    config = tiny_config()
    model = MaskRCNN(mode="training", config=config, model_dir=tmp_path / "logs")
    frozen = model.network.trunk.get_layer("conv1").get_weights()[0].copy()
    trained = model.network.trunk.get_layer("fpn_p2").get_weights()[0].copy()
    means = model.network.box_head.get_layer("mrcnn_class_bn1").get_weights()[2].copy()
    data = load_balloons(balloons, "train"), load_balloons(balloons, "val")
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

    class InferenceConfig(tiny_config):
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


def test_training_says_what_does_not_fit(balloons, tmp_path, tiny_config, load_balloons):
    class TwoClasses(tiny_config):
        NUM_CLASSES = 3

    data = load_balloons(balloons, "train")
    model = MaskRCNN("training", TwoClasses(), tmp_path)
    with pytest.raises(TrainingError, match="has 2 classes with the background, NUM_CLASSES says 3"):
        model.train(data, data, 0.001, 1, "heads")
    model = MaskRCNN("training", tiny_config(), tmp_path)
    with pytest.raises(TrainingError, match="'hesds' matches no layer; stages are heads, "):
        model.train(data, data, 0.001, 1, "hesds")
    with pytest.raises(TrainingError, match="no checkpoint mask_rcnn_balloon_"):
        model.find_last()
    with pytest.raises(ConfigError, match="the mode must be"):
        MaskRCNN("eval", tiny_config(), tmp_path)
