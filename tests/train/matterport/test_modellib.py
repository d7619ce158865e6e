"""`mrcnn.model` and the calls of Matterport's notebooks: train_shapes, inspect_balloon_model and demo."""

import random

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

from pumpseg_train.matterport import modellib, utils, visualize
from pumpseg_train.matterport.config import Config, to_profile
from pumpseg_train.matterport.mask_rcnn import TrainingError
from pumpseg_train.matterport.modellib import log


def test_an_array_is_logged_with_its_shape_and_range(capsys):
    log("image", np.arange(6, dtype=np.uint8).reshape(2, 3))
    log("nothing", np.zeros((0, 4)))
    log("just text")
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.split() == ["image", "shape:", "(2,", "3)", "min:", "0.00000", "max:", "5.00000", "uint8"]
    assert second.split()[:4] == ["nothing", "shape:", "(0,", "4)"]
    assert third == "just text"


def test_the_truth_of_an_image_is_as_the_model_sees_it(balloons, tiny_config, load_balloons):
    dataset, config = load_balloons(balloons, "train"), tiny_config()
    image, meta, class_ids, boxes, masks = modellib.load_image_gt(dataset, config, 0, use_mini_mask=False)
    assert image.shape == (128, 128, 3)
    assert masks.shape == (128, 128, 2)
    assert class_ids.tolist() == [1, 1]
    assert (boxes == utils.extract_bboxes(masks)).all()
    # id, original shape, shape, window, scale, active classes
    assert meta[:7].tolist() == [0, 120, 160, 3, 128, 128, 3]
    assert meta[7:11].tolist() == [16, 0, 112, 128]
    assert meta[11:].tolist() == [0.8, 1, 1]
    small = modellib.load_image_gt(dataset, config, 0, use_mini_mask=True)[4]
    assert small.shape == (56, 56, 2)
    assert (utils.expand_mask(boxes, small, image.shape) == masks).mean() > 0.99


def test_augmentation_changes_image_and_masks_alike(balloons, tiny_config, load_balloons):
    dataset, config = load_balloons(balloons, "train"), tiny_config()

    def mirror(image, masks):
        return image[:, ::-1], masks[:, ::-1]

    plain, mirrored = (
        modellib.load_image_gt(dataset, config, 0, augmentation=augmentation) for augmentation in (None, mirror)
    )
    assert (mirrored[0] == plain[0][:, ::-1]).all()
    assert (mirrored[4] == plain[4][:, ::-1]).all()
    seen = [modellib.load_image_gt(dataset, config, 0, augment=True)[0] for _ in range(20)]
    assert {bool((image == plain[0]).all()) for image in seen} == {True, False}


def test_an_image_is_molded_and_unmolded():
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    molded = modellib.mold_image(image, Config())
    assert molded.dtype == np.float32
    assert np.allclose(molded[0, 0], image[0, 0] - np.array([123.7, 116.8, 103.9]), atol=1e-4)
    assert (modellib.unmold_image(molded, Config()) == image).all()


@pytest.fixture
def notebook(tmp_path, tiny_config):
    """The configurations of the notebooks, and a folder for logs."""
    matplotlib.use("Agg")

    class InferenceConfig(tiny_config):
        GPU_COUNT = 1
        IMAGES_PER_GPU = 1
        DETECTION_MIN_CONFIDENCE = 0

    yield tiny_config(), InferenceConfig(), tmp_path / "logs"
    plt.close("all")


def test_the_calls_of_train_shapes(notebook, balloons, load_balloons, step_by_step, tmp_path, capsys):
    config, inference_config, logs = notebook
    config.display()
    assert config.to_dict()["NAME"] == "balloon"
    dataset_train, dataset_val = load_balloons(balloons, "train"), load_balloons(balloons, "val")
    for image_id in np.random.choice(dataset_train.image_ids, 2):
        image = dataset_train.load_image(image_id)
        mask, class_ids = dataset_train.load_mask(image_id)
        visualize.display_top_masks(image, mask, class_ids, dataset_train.class_names)
    model = modellib.MaskRCNN(mode="training", config=config, model_dir=logs)
    ended = []
    from keras.callbacks import LambdaCallback

    model.train(
        dataset_train,
        dataset_val,
        learning_rate=config.LEARNING_RATE,
        epochs=1,
        layers="heads",
        custom_callbacks=[LambdaCallback(on_epoch_end=lambda epoch, logs: ended.append(epoch))],
    )
    assert ended == [0]
    model_path = tmp_path / "mask_rcnn_shapes.h5"
    model.keras_model.save_weights(model_path)

    model = modellib.MaskRCNN(mode="inference", config=inference_config, model_dir=logs)
    assert model.find_last().endswith("mask_rcnn_balloon_0001.h5")
    model.load_weights(model_path, by_name=True)
    image_id = random.choice(dataset_val.image_ids)
    original, image_meta, gt_class_id, gt_bbox, gt_mask = modellib.load_image_gt(
        dataset_val, inference_config, image_id, use_mini_mask=False
    )
    for name, array in (("original_image", original), ("image_meta", image_meta), ("gt_class_id", gt_class_id)):
        log(name, array)
    visualize.display_instances(original, gt_bbox, gt_mask, gt_class_id, dataset_train.class_names, figsize=(8, 8))
    r = model.detect([original], verbose=1)[0]
    ax = plt.subplots(1)[1]
    visualize.display_instances(
        original, r["rois"], r["masks"], r["class_ids"], dataset_val.class_names, r["scores"], ax=ax
    )
    molded_images = np.expand_dims(modellib.mold_image(original, inference_config), 0)
    assert molded_images.shape == (1, 128, 128, 3)
    ap, precisions, recalls, overlaps = utils.compute_ap(
        gt_bbox, gt_class_id, gt_mask, r["rois"], r["class_ids"], r["scores"], r["masks"]
    )
    assert 0 <= ap <= 1
    assert overlaps.shape == (len(r["scores"]), len(gt_class_id))
    visualize.plot_precision_recall(ap, precisions, recalls)


def test_the_calls_of_inspect_balloon(notebook, balloons, load_balloons):
    config, _, _ = notebook
    dataset = load_balloons(balloons, "train")
    assert [info["name"] for info in dataset.class_info] == ["BG", "balloon"]
    assert dataset.source_image_link(0) == dataset.image_info[0]["path"]
    image = dataset.load_image(0)
    mask, class_ids = dataset.load_mask(0)
    original_shape = image.shape
    image, window, scale, padding, _ = utils.resize_image(
        image, min_dim=config.IMAGE_MIN_DIM, max_dim=config.IMAGE_MAX_DIM, mode=config.IMAGE_RESIZE_MODE
    )
    mask = utils.resize_mask(mask, scale, padding)
    assert original_shape == (120, 160, 3)
    assert image.shape[:2] == mask.shape[:2] == (128, 128)
    assert window == (16, 0, 112, 128)
    bbox = utils.extract_bboxes(mask)
    visualize.display_instances(image, bbox, mask, class_ids, dataset.class_names)
    image, _, class_ids, bbox, mask = modellib.load_image_gt(dataset, config, 0, augment=True, use_mini_mask=True)
    visualize.display_images([image] + [mask[:, :, i] for i in range(min(mask.shape[-1], 7))])
    mask = utils.expand_mask(bbox, mask, image.shape)
    visualize.draw_boxes(image, refined_boxes=bbox, masks=mask, title="Refined")


def test_the_calls_of_the_scripts_on_layers_and_logs(notebook, tmp_path, monkeypatch):
    config, _, logs = notebook
    model = modellib.MaskRCNN(mode="training", config=config, model_dir=logs)
    assert model.keras_model.get_layer("mrcnn_mask").name == "mrcnn_mask"
    assert {"conv1", "fpn_p2", "mrcnn_bbox_fc"} <= {layer.name for layer in model.keras_model.layers}
    with pytest.raises(ValueError, match="no layer 'roi_align_mask'"):
        model.keras_model.get_layer("roi_align_mask")
    lines = []
    model.keras_model.summary(print_fn=lambda line, **_: lines.append(line))
    assert any("mrcnn_mask" in line for line in lines)
    checkpoint = logs / "balloon20200101T0000" / "mask_rcnn_balloon_0007.h5"
    model.set_log_dir(checkpoint)
    assert (model.epoch, model.log_dir) == (7, checkpoint.parent)
    model.set_log_dir()
    assert model.epoch == 0
    with pytest.raises(TrainingError, match="no checkpoint"):
        model.find_last()


def test_imagenet_weights_are_those_of_the_trunk(notebook, make_model, tmp_path, monkeypatch, capsys):
    import h5py

    from pumpseg_train.matterport import mask_rcnn
    from pumpseg_train.matterport.weights_file import read_weights, write_names

    config, _, logs = notebook
    trunk = tmp_path / "trunk.h5"
    model = modellib.MaskRCNN(mode="training", config=config, model_dir=logs)
    model.save_weights(tmp_path / "all.h5")
    kept = {
        name: arrays
        for name, arrays in read_weights(tmp_path / "all.h5").items()
        if name.startswith(("conv1", "bn", "res"))
    }
    with h5py.File(trunk, "w") as file:
        write_names(file, "layer_names", list(kept))
        for name, arrays in kept.items():
            write_names(file.create_group(name), "weight_names", [f"{name}_{i}" for i in range(len(arrays))])
            for i, array in enumerate(arrays):
                file[name][f"{name}_{i}"] = array
    monkeypatch.setattr(mask_rcnn, "IMAGENET_URL", trunk.as_uri())
    monkeypatch.setattr(mask_rcnn.Path, "home", lambda: tmp_path)
    path = model.get_imagenet_weights()
    assert path == str(tmp_path / ".keras" / "models" / "trunk.h5")
    assert model.get_imagenet_weights() == path, "downloaded once"
    loaded = model.load_weights(path, by_name=True)
    assert "conv1" in loaded.loaded
    assert "fpn_p2" in loaded.left

    class Deeper(type(config)):
        BACKBONE = "resnet101"

    deeper = modellib.MaskRCNN(mode="training", config=Deeper(), model_dir=logs)
    assert to_profile(Deeper()).backbone == "resnet101"
    loaded = deeper.load_weights(path, by_name=True)
    assert "res4f_branch2a" in loaded.loaded
    assert "res4w_branch2a" in loaded.left
