"""A Matterport .h5 through pumpseg-export: the file agrees with Keras, and what cannot be exported is reported."""

import dataclasses
import json

import keras
import numpy as np
import onnx
import pytest

from pumpseg import Segmenter
from pumpseg_export.cli import main
from pumpseg_train.cli.evaluate import main as evaluate_main
from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.dataset.photo_file import read_frame
from pumpseg_train.evaluation.metrics import evaluate
from pumpseg_train.matterport.weights_file import save_weights
from pumpseg_train.model import matterport
from pumpseg_train.model.network import build_mask_rcnn
from pumpseg_train.model.profile import PROFILES
from pumpseg_train.training.predictor import predictor


def louden(layer, outputs, spread):
    """Scales and shifts a layer so that its outputs (..., C) have this spread about 0."""
    kernel, bias = layer.get_weights()
    rows = np.concatenate([np.array(output).reshape(-1, len(bias)) for output in outputs])
    factor = spread / rows.std(axis=0)
    layer.set_weights([kernel * factor, (bias - rows.mean(axis=0)) * factor])


@pytest.fixture(scope="module", autouse=True)
def thin_backbone():
    """An eighth of the channels: the conversion of as many layers is what takes its time for every number."""
    bottleneck = matterport.bottleneck
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matterport, "bottleneck", lambda x, channels, *a, **o: bottleneck(x, channels // 8, *a, **o))
        yield


@pytest.fixture(scope="module")
def loud(narrow_matterport):
    """A model with random weights whose answers differ from place to place."""
    keras.utils.set_random_seed(1)
    model = build_mask_rcnn(narrow_matterport, ("apple", "pumpkin"))
    rng = np.random.default_rng(0)
    trunk = model.trunk(rng.integers(0, 256, (1, 128, 128, 3)).astype(np.float32))
    for name, spread in (("rpn_class_raw", 2.0), ("rpn_bbox_pred", 1.0)):
        layer = model.trunk.get_layer(name)
        shared = model.trunk.get_layer("rpn_conv_shared")
        louden(layer, [layer(shared(trunk[level])) for level in narrow_matterport.levels], spread)
    pooled = np.stack([np.array(trunk["p2"])[0, y : y + 14, x : x + 14] for y, x in rng.integers(0, 18, (20, 2))])
    features = model.box_head.get_layer("box_shared")
    for name, spread in (("mrcnn_class_logits", 2.0), ("mrcnn_bbox_fc", 0.5)):
        layer = model.box_head.get_layer(name)
        inner = keras.Model(model.box_head.input, features.output)
        louden(layer, [layer(inner(pooled[:, :7, :7]))], spread)
    layer = model.mask_head.get_layer("mrcnn_mask")
    inner = keras.Model(model.mask_head.input, layer.output)
    louden(layer, [inner(pooled)], 2.0)
    return model


@pytest.fixture(scope="module")
def weights(loud, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    save_weights(loud, folder / "fruit.h5")
    (folder / "names.txt").write_text("BG\napple\npumpkin\n")
    return folder


@pytest.fixture(scope="module")
def exported(weights, narrow_matterport, fruit):
    """The model file that the command wrote of it."""
    path = weights / "fruit.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PROFILES, "matterport-resnet50", narrow_matterport)
        options = ["--profile", "matterport-resnet50", "--classes", str(weights / "names.txt"), "--min-side", "128"]
        options += ["--photos", str(fruit / "val" / "images"), "--threshold", "0.3"]
        assert main([str(weights / "fruit.h5"), "-o", str(path), *options]) == 0
    return path


def test_the_file_says_what_it_is_and_has_only_plain_operators(exported):
    info = Segmenter(exported, provider="cpu").info
    assert (info.profile, info.class_names) == ("matterport-resnet50", ("apple", "pumpkin"))
    assert (info.letterbox.placement, info.letterbox.min_side, info.fill) == ("centred", 128, (0, 0, 0))
    assert (info.score_threshold, info.nms_threshold) == (0.3, 0.3)
    kinds = {node.op_type for node in onnx.load(exported).graph.node}
    assert not kinds & {"Loop", "If", "Scan", "Unique"}
    assert "Resize" in kinds, "the pyramid is enlarged by one operator"
    assert "Tile" not in kinds


def test_the_segmenter_finds_what_keras_finds(exported, loud, fruit):
    profile = dataclasses.replace(loud.profile, score_threshold=0.3)
    find = predictor(dataclasses.replace(loud, profile=profile))
    segmenter = Segmenter(exported, provider="cpu", threshold=0.3)
    for photo in read_dataset(fruit, "val").photos:
        frame = read_frame(photo.path)
        ours, keras_found = segmenter(frame), find(frame)
        assert len(ours) > 5
        assert set(ours.class_ids) == {0, 1}
        near = np.abs(ours.boxes[:, None] - keras_found.boxes[None]).max(axis=-1) <= 1
        near &= np.abs(ours.scores[:, None] - keras_found.scores[None]) <= 1e-3
        near &= ours.class_ids[:, None] == keras_found.class_ids[None]
        assert near.any(axis=1).mean() > 0.95
        assert (ours.boxes == np.round(ours.boxes)).all(), "whole pixels, as mrcnn gives them"
        assert (ours.boxes[:, 2:] <= [frame.shape[1], frame.shape[0]]).all()


def test_a_black_frame_is_no_special_case(exported):
    found = Segmenter(exported, provider="cpu", threshold=0.0)(np.zeros((90, 160, 3), np.uint8))
    assert np.isfinite(found.boxes).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "a .h5 file needs --profile: one of matterport-resnet50, matterport-resnet101, not None"),
        (["--profile", "edge"], "a .h5 file needs --profile"),
        (["--profile", "matterport-resnet50"], "give their names with --classes"),
        (["--profile", "matterport-resnet50", "--classes", "none.txt"], "cannot read the class names in none.txt"),
        (
            ["--profile", "matterport-resnet50", "--threshold", "7", "--classes", "NAMES"],
            "--threshold: must be a number from 0 to 1, got 7",
        ),
        (
            ["--profile", "matterport-resnet50", "--classes", "NAMES", "--photos", "gone"],
            "no such file or folder: gone",
        ),
        (["--profile", "matterport-resnet50", "--classes", "TWICE"], "names 'apple' twice"),
        (["--profile", "matterport-resnet50", "--classes", "NAMES", "--size", "100"], "multiples of 64"),
    ],
)
def test_what_is_missing_is_reported_before_the_work_begins(weights, tmp_path, capsys, options, message):
    (tmp_path / "twice.txt").write_text("apple\napple\n")
    names = {"NAMES": str(weights / "names.txt"), "TWICE": str(tmp_path / "twice.txt")}
    arguments = [str(weights / "fruit.h5"), "-o", str(tmp_path / "x.onnx"), *(names.get(o, o) for o in options)]
    try:
        code = main(arguments)
    except SystemExit as stop:  # a wrong option
        code = stop.code
    assert code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*x.onnx"))


def test_eval_takes_the_weights_as_they_are(weights, loud, narrow_matterport, fruit, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(PROFILES, "matterport-resnet50", narrow_matterport)
    options = ["--profile", "matterport-resnet50", "--classes", str(weights / "names.txt"), "--min-side", "128"]
    command = [str(weights / "fruit.h5"), str(fruit), *options, "--json", str(tmp_path / "figures.json")]
    assert evaluate_main(command) == 0
    assert "at 128x128 on 2 photos" in capsys.readouterr().out
    # As in mrcnn's own COCO evaluation, no detection is too weak to count.
    whole = dataclasses.replace(loud, profile=dataclasses.replace(loud.profile, score_threshold=0.0))
    wanted = evaluate(read_dataset(fruit, "val"), predictor(whole)).to_json()
    assert json.loads((tmp_path / "figures.json").read_text())["box"] == pytest.approx(wanted["box"])
    assert evaluate_main([*command, "--size", "192x128"]) == 0
    assert "at 192x128 on 2 photos" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("fruit.h5", [], "a .h5 file needs --profile"),
        ("fruit.h5", ["--tiles", "2"], "--tiles takes an ONNX file"),
        ("fruit.onnx", ["--nms", "0.3"], "--nms goes with a .h5 file"),
        ("fruit.onnx", ["--size", "128"], "--size goes with a .h5 file"),
    ],
)
def test_eval_reports_what_does_not_go_together(weights, fruit, capsys, model, options, message):
    assert evaluate_main([str(weights / model), str(fruit), *options]) == 2
    assert message in capsys.readouterr().err


def test_a_file_of_other_classes_is_refused(weights, narrow_matterport, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(PROFILES, "matterport-resnet50", narrow_matterport)
    (tmp_path / "names.txt").write_text("apple\nmelon\npumpkin\n")
    options = ["--profile", "matterport-resnet50", "--classes", str(tmp_path / "names.txt")]
    assert main([str(weights / "fruit.h5"), "-o", str(tmp_path / "x.onnx"), *options]) == 2
    assert "knows 2 classes and the background, here are 3 (apple, melon, pumpkin)" in capsys.readouterr().err
    assert not (tmp_path / "x.onnx").exists()


def test_options_of_weights_do_not_go_with_a_run(tiny_run, tmp_path, capsys):
    assert main([str(tiny_run), "-o", str(tmp_path / "x.onnx"), "--profile", "matterport-resnet50"]) == 2
    assert "--profile needs a .h5 file" in capsys.readouterr().err


def test_int8_finds_what_float32_finds(exported, fruit, tmp_path):
    target = tmp_path / "int8.onnx"
    assert main([str(exported), "-o", str(target), "--int8", "--calibrate", str(fruit / "train" / "images")]) == 0
    plain, small = (Segmenter(path, provider="cpu", threshold=0.3) for path in (exported, target))
    assert (small.info.precision, small.info.profile) == ("int8", "matterport-resnet50")
    near = []
    for photo in read_dataset(fruit, "val").photos:
        frame = read_frame(photo.path)
        wanted, given = plain(frame), small(frame)
        near += list((np.abs(wanted.boxes[:, None] - given.boxes[None]).max(axis=-1) <= 4).any(axis=1))
    assert len(near) > 10
    assert np.mean(near) > 0.6
