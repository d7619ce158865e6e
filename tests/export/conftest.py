import dataclasses

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

from pumpseg.inference.letterbox import letterbox
from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.dataset.photo_file import read_frame


@pytest.fixture(scope="session")
def three_classes():
    """A Mask R-CNN for three classes whose heads are random but loud: boxes, scores and masks differ a lot."""
    from pumpseg_train.model.network import build_mask_rcnn
    from pumpseg_train.model.profile import EDGE

    keras.utils.set_random_seed(3)
    # Small pictures show boxes of all three levels only if those begin lower.
    profile = dataclasses.replace(EDGE, input_size=(96, 96), roi_level_size=24.0)
    model = build_mask_rcnn(profile, ("apple", "melon", "pumpkin"), imagenet=True)
    rng = np.random.default_rng(0)
    trunk = model.trunk(rng.integers(0, 256, (1, 64, 96, 3)).astype(np.float32))
    pooled = {7: np.array(trunk["p3"])[:, :7, :7]}
    pooled[14] = np.pad(pooled[7], ((0, 0), (0, 7), (0, 7), (0, 0)), "wrap")
    for part, layer, output, found, wanted in (
        (model.trunk, "rpn_objectness", "objectness", trunk, 2.0),
        (model.trunk, "rpn_deltas", "anchor_deltas", trunk, 0.3),
        (model.box_head, "class_logits", "class_logits", model.box_head(pooled[7]), 2.0),
        (model.box_head, "box_deltas", "box_deltas", model.box_head(pooled[7]), 1.0),
        (model.mask_head, "mask_logits_map", "mask_logits", model.mask_head(pooled[14]), 2.0),
    ):
        kernel, bias = part.get_layer(layer).get_weights()
        part.get_layer(layer).set_weights([kernel * wanted / np.array(found[output]).std(), bias])
    return model


@pytest.fixture(scope="session")
def wide_graph(three_classes):
    """That model for pictures of 128x64."""
    from pumpseg_export.assemble import assemble

    return assemble(three_classes, (64, 128))


@pytest.fixture(scope="session")
def photos(fruit):
    """Paths of the photos of fruit."""
    return [photo.path for split in ("train", "val") for photo in read_dataset(fruit, split).photos]


@pytest.fixture(scope="session")
def wide_image(photos):
    """One of them as that graph takes it."""
    return letterbox(read_frame(photos[0]), (64, 128), swap_red_blue=True)[0][None]


@pytest.fixture(scope="session")
def run_graph():
    """Runs an ONNX model (or a file) on an image: outputs by name."""

    def run(model, image):
        source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
        session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, {session.get_inputs()[0].name: image}), strict=True))

    return run


@pytest.fixture(scope="session")
def pictures():
    """Model inputs of 128x64, uint8, with blocks of colour in them."""
    rng = np.random.default_rng(4)
    return [rng.integers(0, 256, (1, 8, 16, 3)).astype(np.uint8).repeat(8, 1).repeat(8, 2) for _ in range(3)]


@pytest.fixture(scope="session")
def wide_int8(wide_graph, pictures):
    from pumpseg_export.quantise import MASK_HEAD, TRUNK, quantise

    return quantise(quantise(wide_graph, TRUNK, pictures, "minmax"), MASK_HEAD, pictures, "minmax")
