"""The Matterport profile compared with mrcnn 0.2 itself, stage by stage from its own tensors, then end to end.

    pip install -e '.[matterport-reference]' && pip install --no-deps 'tf-keras==2.21.*'
    pytest -m mrcnn_reference

mrcnn runs in a process of its own (oracle.py): eager execution is off there.
"""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.mrcnn_reference

SIDE, CLASSES, CONFIDENCE = 128, 3, 0.4
ORACLE = Path(__file__).with_name("oracle.py")
# The share of rows that may differ: tf.image.crop_and_resize puts zeros where a sample of a box at the border misses
# the map by a rounding, and boxes at an NMS threshold fall either way.
MAX_DIFFERING = 0.02


def run_oracle(out, photo, *options):
    out.mkdir()
    command = [
        sys.executable,
        str(ORACLE),
        str(out),
        "--images",
        str(photo),
        "--size",
        str(SIDE),
        "--min-side",
        str(SIDE),
    ]
    command += ["--classes", str(CLASSES), "--confidence", str(CONFIDENCE), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(out / f"{photo.stem}.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A photo of a cat, RGB, that is not square."""
    data = pytest.importorskip("skimage.data", reason="the extra matterport-reference is not installed")
    pytest.importorskip("mrcnn", reason="the extra matterport-reference is not installed")
    path = tmp_path_factory.mktemp("photo") / "cat.npy"
    np.save(path, data.chelsea())
    return path


@pytest.fixture(scope="module")
def reference(photo, tmp_path_factory):
    """What mrcnn computed with seeded weights, stage by stage, and `weights`, the .h5 that it saved."""
    out = tmp_path_factory.mktemp("mrcnn") / "seeded"
    arrays = run_oracle(out, photo, "--stages")
    return arrays | {"weights": out / "weights.h5"}


@pytest.fixture(scope="module")
def model(reference):
    from pumpseg.inference.letterbox import Rule
    from pumpseg_train.matterport.weights_file import load_weights
    from pumpseg_train.model.network import build_mask_rcnn
    from pumpseg_train.model.profile import MATTERPORT_RESNET50

    profile = dataclasses.replace(
        MATTERPORT_RESNET50,
        input_size=(SIDE, SIDE),
        letterbox=Rule("centred", min_side=SIDE),
        score_threshold=CONFIDENCE,
    )
    built = build_mask_rcnn(profile, ("cat", "dog"))
    loaded = load_weights(built, reference["weights"])
    assert (len(loaded.loaded), loaded.left, loaded.ignored) == (133, (), ())
    return built


@pytest.fixture(scope="module")
def image(photo, model):
    """The letterboxed photo uint8 (1, 128, 128, 3) RGB."""
    from pumpseg.inference.letterbox import letterbox

    profile = model.profile
    return letterbox(np.load(photo), profile.input_size, profile.fill, rule=profile.letterbox)[0][None]


@pytest.fixture(scope="module")
def trunk(model, image):
    return {name: np.array(array) for name, array in model.trunk(image.astype(np.float32), training=False).items()}


def x_first(boxes):
    return boxes[..., [1, 0, 3, 2]]


def share_unmatched(found, wanted, tolerance):
    """Share of the wanted rows that no found row is near."""
    distances = np.abs(found[:, None] - wanted[None]).max(axis=-1)
    return (distances.min(axis=0) > tolerance).mean()


def test_the_image_is_resized_to_the_last_grey_level(reference, model, image):
    assert (image[0] == np.round(reference["molded"] + model.profile.pixel_mean)).all()


def test_the_window_is_found_in_the_image(reference, model, image):
    from pumpseg_train.model.boxes import content_window

    found = np.array(content_window(image, model.profile))[0, 0] + [0, 0, 1, 1]
    assert found.tolist() == x_first(reference["window"]).tolist()


@pytest.mark.parametrize("level", ["p2", "p3", "p4", "p5"])
def test_feature_maps(reference, trunk, level):
    wanted = reference[f"fpn_{level}"]
    assert np.abs(trunk[level][0] - wanted).max() < 2e-4 * np.abs(wanted).max()


def test_the_rpn(reference, trunk):
    assert np.abs(1 / (1 + np.exp(-trunk["objectness"][0])) - reference["rpn_class"][:, 1]).max() < 1e-3
    assert np.abs(x_first(trunk["anchor_deltas"][0]) - reference["rpn_bbox"]).max() < 1e-3


def test_proposals_as_a_set(reference, trunk, model):
    from pumpseg_train.model.proposals import propose

    profile = model.profile
    # From mrcnn's own answers, so that only the choice is compared.
    foreground = reference["rpn_class"][:, 1].astype(np.float64)
    answers = {
        "objectness": np.log(foreground / (1 - foreground)).astype(np.float32)[None],
        "anchor_deltas": x_first(reference["rpn_bbox"])[None],
    }
    found = propose(answers, profile, (SIDE, SIDE), candidates=profile.candidates, count=profile.proposals)
    boxes = np.array(found.boxes)[0][np.array(found.real)[0]]
    wanted = x_first(reference["proposals"]) * (SIDE - 1)
    wanted = wanted[wanted.any(axis=1)]
    assert len(wanted) > 100
    assert share_unmatched(boxes, wanted, 0.01) <= MAX_DIFFERING
    assert share_unmatched(wanted, boxes, 0.01) <= MAX_DIFFERING


def test_heads_from_mrcnns_own_maps_and_rois(reference, model):
    from pumpseg_train.model.roi_align import pool_pyramid

    profile = model.profile
    pyramid = [reference[f"fpn_{level}"][None] for level in ("p2", "p3", "p4", "p5")]
    rois = (x_first(reference["proposals"]) * (SIDE - 1)).astype(np.float32)
    heads = model.box_head(pool_pyramid(pyramid, rois[None], profile, profile.box_pool), training=False)
    logits = np.array(heads["class_logits"], np.float64)
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    interior = (reference["proposals"] < 1).all(axis=1)
    assert interior.sum() > 100
    assert np.abs(probabilities - reference["probabilities"])[interior].max() < 1e-4
    assert np.abs(x_first(np.array(heads["box_deltas"])) - reference["deltas"])[interior].max() < 1e-4

    detections = reference["detections"][reference["detections"][:, 4] > 0]
    inside = (detections[:, :4] < 1).all(axis=1)
    boxes = (x_first(detections[:, :4]) * (SIDE - 1)).astype(np.float32)
    answers = model.mask_head(pool_pyramid(pyramid, boxes[None], profile, profile.mask_pool), training=False)
    masks = 1 / (1 + np.exp(-np.array(answers["mask_logits"]).reshape(len(boxes), CLASSES, 28, 28)))
    wanted = np.moveaxis(reference["masks28"][: len(boxes)], -1, 1)
    assert inside.sum() > 10
    assert np.abs(masks - wanted)[inside].max() < 1e-3


def differing(reference, found):
    """How many final detections of either have no partner: class, box within 1 px, score within 1e-3."""
    boxes = x_first(reference["rois"]).astype(float)
    fits = (
        (np.abs(found.boxes[None] - boxes[:, None]).max(axis=-1) <= 1)
        & (np.abs(found.scores[None] - reference["scores"][:, None]) <= 1e-3)
        & (found.class_ids[None] + 1 == reference["class_ids"][:, None])
    )
    return max((~fits.any(axis=1)).sum(), (~fits.any(axis=0)).sum())


def test_end_to_end_with_keras_and_onnx(reference, model, photo, tmp_path):
    import json

    import onnx

    from pumpseg import Segmenter
    from pumpseg_export.assemble import assemble
    from pumpseg_export.export import describe
    from pumpseg_train.training.predictor import predictor

    frame = np.ascontiguousarray(np.load(photo)[..., ::-1])
    allowed = max(1, MAX_DIFFERING * len(reference["scores"]))
    assert len(reference["scores"]) > 20
    assert differing(reference, predictor(model)(frame)) <= allowed

    graph = assemble(model, model.profile.input_size)
    onnx.helper.set_model_props(graph, {"pumpseg": json.dumps(describe(model, (SIDE, SIDE), {}, "", ""))})
    onnx.save(graph, tmp_path / "model.onnx")
    segmenter = Segmenter(tmp_path / "model.onnx", provider="cpu", threshold=CONFIDENCE)
    assert differing(reference, segmenter(frame)) <= allowed


def test_mrcnn_loads_what_we_write_and_finds_the_same(reference, model, photo, tmp_path):
    from pumpseg_train.matterport.weights_file import save_weights

    save_weights(model, tmp_path / "ours.h5")
    again = run_oracle(tmp_path / "again", photo, "--weights", tmp_path / "ours.h5")
    for name in ("rois", "class_ids", "masks"):
        assert (again[name] == reference[name]).all()
    assert np.abs(again["scores"] - reference["scores"]).max(initial=0) < 1e-6


def test_mrcnns_own_data_set_fills_batches(tmp_path):
    """`BalloonDataset` of samples/balloon/balloon.py, with skimage and on mrcnn's own base class."""
    utils = pytest.importorskip("mrcnn.utils", exc_type=ImportError)
    import json

    import skimage.draw
    import skimage.io
    from mrcnn.config import Config

    from pumpseg_train.matterport.config import to_profile
    from pumpseg_train.matterport.dataset import Batches

    class BalloonConfig(Config):
        NAME = "balloon"
        IMAGES_PER_GPU = 2
        NUM_CLASSES = 1 + 1
        IMAGE_MIN_DIM = IMAGE_MAX_DIM = SIDE

    class BalloonDataset(utils.Dataset):
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
                image = skimage.io.imread(image_path)
                height, width = image.shape[:2]
                self.add_image(
                    "balloon", image_id=a["filename"], path=image_path, width=width, height=height, polygons=polygons
                )

        def load_mask(self, image_id):
            image_info = self.image_info[image_id]
            if image_info["source"] != "balloon":
                return super(self.__class__, self).load_mask(image_id)
            info = self.image_info[image_id]
            mask = np.zeros([info["height"], info["width"], len(info["polygons"])], dtype=np.uint8)
            for i, p in enumerate(info["polygons"]):
                rr, cc = skimage.draw.polygon(p["all_points_y"], p["all_points_x"])
                mask[rr, cc, i] = 1
            return mask.astype(bool), np.ones([mask.shape[-1]], dtype=np.int32)

        def image_reference(self, image_id):
            info = self.image_info[image_id]
            if info["source"] == "balloon":
                return info["path"]
            return super(self.__class__, self).image_reference(image_id)

    polygon = {"name": "polygon", "all_points_x": [20, 80, 80, 20], "all_points_y": [10, 10, 70, 70]}
    entries = {
        "a": {"filename": "a.png", "regions": {"0": {"shape_attributes": polygon}}},
        "b": {"filename": "b.png", "regions": [{"shape_attributes": polygon}]},
        "c": {"filename": "c.png", "regions": {}},
    }
    (tmp_path / "train").mkdir()
    for entry in entries.values():
        skimage.io.imsave(
            tmp_path / "train" / entry["filename"], np.full((96, 128, 3), 90, np.uint8), check_contrast=False
        )
    (tmp_path / "train" / "via_region_data.json").write_text(json.dumps(entries))
    data = BalloonDataset()
    data.load_balloon(tmp_path, "train")
    data.prepare()
    config = BalloonConfig()
    (batch,) = Batches(data, config, to_profile(config), steps=1)[0]
    assert batch["image"].shape == (2, SIDE, SIDE, 3)
    assert batch["class_ids"][:, :2].tolist() == [[1, 0], [1, 0]]
    assert np.abs(batch["boxes"][:, 0] - [20, 26, 81, 87]).max() <= 1, "96x128 lies 16 below the top"
    assert batch["active"].tolist() == [[1, 1]] * 2


def test_mrcnns_own_classes_are_accepted():
    pytest.importorskip("mrcnn")
    from mrcnn.config import Config

    from pumpseg_train.matterport.config import to_profile
    from pumpseg_train.model.profile import MATTERPORT_RESNET101

    class Own(Config):
        NAME = "own"
        NUM_CLASSES = 2

    assert to_profile(Own()) == MATTERPORT_RESNET101
