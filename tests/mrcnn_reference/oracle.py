"""The real mrcnn as the reference: seeded weights, its .h5, its intermediate tensors and what detect() finds.

    python oracle.py OUT --images a.npy b.npy --size 256 --min-side 256 --classes 2 --backbone resnet50

writes OUT/weights.h5 (unless --weights names a file to load instead) and one OUT/<image>.npz each. Random weights are
calibrated: batch normalisation gets the statistics of the images and the logits a fixed spread, so that scores
have no ties. Residual branches add little each, as in trained networks: a hundred random layers of full weight would
make 1e-4 of a rounding error of 1e-7, and then mrcnn differs from itself with another library of kernels.
"""

import argparse
from pathlib import Path

import mrcnn_shim  # noqa: F401  (before mrcnn)
import numpy as np
from mrcnn.config import Config
from mrcnn.model import MaskRCNN
from tf_keras.src.backend import batch_set_value, get_session

SPREAD = {
    "rpn_class_raw": 2.0,
    "rpn_bbox_pred": 1.0,
    "mrcnn_class_logits": 2.0,
    "mrcnn_bbox_fc": 0.5,
    "mrcnn_mask": 2.0,
}

RESIDUAL = 0.3  # gamma at the end of a residual branch


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=Path, nargs="+", required=True, help=".npy files, uint8 RGB")
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--classes", type=int, default=2, help="with the background")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--min-side", type=int, default=256)
    parser.add_argument("--confidence", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--stages", action="store_true", help="save the tensors on the way as well")
    arguments = parser.parse_args()

    model = MaskRCNN("inference", make_config(arguments), str(arguments.out / "logs"))
    images = [np.load(path) for path in arguments.images]
    if arguments.weights:
        model.load_weights(str(arguments.weights), by_name=True)
    else:
        seed_weights(model, images, np.random.default_rng(arguments.seed))
        model.keras_model.save_weights(str(arguments.out / "weights.h5"))
    for path, image in zip(arguments.images, images, strict=True):
        found = model.detect([image])[0]
        arrays = {name: found[name] for name in ("rois", "class_ids", "scores")}
        arrays["masks"] = np.packbits(np.moveaxis(found["masks"], -1, 0).astype(bool), axis=None)
        if arguments.stages:
            arrays |= stages(model, image)
        np.savez(arguments.out / f"{path.stem}.npz", **arrays)


def make_config(arguments):
    class ReferenceConfig(Config):
        NAME = "reference"
        GPU_COUNT = 1
        IMAGES_PER_GPU = 1
        BACKBONE = arguments.backbone
        NUM_CLASSES = arguments.classes
        IMAGE_MIN_DIM = arguments.min_side
        IMAGE_MAX_DIM = arguments.size
        DETECTION_MIN_CONFIDENCE = arguments.confidence

    return ReferenceConfig()


def feed(model, image):
    molded, metas, windows = model.mold_inputs([image])
    anchors = model.get_anchors(molded[0].shape)[None]
    return [molded, metas, anchors], windows[0]


def seed_weights(model, images, rng):
    """Fills every layer; those with a norm or a spread to meet are set in the order in which data flows."""
    session, keras_model = get_session(), model.keras_model
    fed = [dict(zip(keras_model.inputs, feed(model, image)[0], strict=True)) for image in images]
    rpn = keras_model.get_layer("rpn_model")
    layers = [layer for layer in keras_model.layers if layer.weights and layer is not rpn]
    values = []
    for layer in [*layers, *(layer for layer in rpn.layers if layer.weights)]:
        # In the order of construction: kernel, bias; or gamma, beta, mean, variance.
        shapes = [weight.shape.as_list() for weight in layer.weights]
        if len(shapes) == 2:
            fan_in = np.prod(shapes[0][:-1])
            kernel = rng.standard_normal(shapes[0], np.float32) * np.sqrt(2 / fan_in).astype(np.float32)
            arrays = [kernel, rng.uniform(-0.1, 0.1, shapes[1])]
        else:
            gamma, beta = rng.uniform(0.8, 1.2, shapes[0]), rng.uniform(-0.2, 0.2, shapes[1])
            if layer.name.endswith("_branch2c"):
                gamma *= RESIDUAL
            arrays = [gamma, beta, np.zeros(shapes[2]), np.ones(shapes[3])]
        values += zip(layer.weights, arrays, strict=True)
    # All at once: each call takes the session the better part of a second.
    batch_set_value(values)

    def run(tensor):
        return np.concatenate([session.run(tensor, places) for places in fed])

    def normalise(layer):
        gathered = run(layer.input)
        gathered = gathered.reshape(-1, gathered.shape[-1])
        _, _, mean, variance = layer.weights
        batch_set_value([(mean, gathered.mean(axis=0)), (variance, gathered.var(axis=0) + 1e-3)])

    def spread(layer, outputs):
        kernel, bias = layer.get_weights()
        given = np.concatenate([run(output).reshape(-1, len(bias)) for output in outputs])
        factor = SPREAD[layer.name] / given.std(axis=0)
        layer.set_weights([kernel * factor, (bias - given.mean(axis=0)) * factor])

    norms = [layer for layer in layers if len(layer.weights) == 4]
    for layer in norms:
        if layer.name.startswith("bn"):
            normalise(layer)
    for name, output in (("rpn_class_raw", 0), ("rpn_bbox_pred", 2)):
        spread(rpn.get_layer(name), [rpn.get_output_at(level)[output] for level in range(5)])
    for name in ("mrcnn_class_bn1", "mrcnn_class_bn2"):
        normalise(keras_model.get_layer(name))
    for name in ("mrcnn_class_logits", "mrcnn_bbox_fc"):
        spread(keras_model.get_layer(name), [keras_model.get_layer(name).output])
    for index in range(1, 5):
        normalise(keras_model.get_layer(f"mrcnn_mask_bn{index}"))
    # The sigmoid is part of this layer, so its logits are worked out here.
    mask = keras_model.get_layer("mrcnn_mask")
    kernel = mask.get_weights()[0]
    given = run(mask.input).reshape(-1, kernel.shape[2]) @ kernel[0, 0]
    factor = SPREAD["mrcnn_mask"] / given.std(axis=0)
    mask.set_weights([kernel * factor, -given.mean(axis=0) * factor])


def stages(model, image):
    inputs, window = feed(model, image)
    names = [f"fpn_p{level}" for level in range(2, 6)]
    outputs = [model.keras_model.get_layer(name).output for name in names] + model.keras_model.outputs
    names += ["detections", "probabilities", "deltas", "masks28", "proposals", "rpn_class", "rpn_bbox"]
    session = get_session()
    values = session.run(outputs, dict(zip(model.keras_model.inputs, inputs, strict=True)))
    return {"molded": inputs[0][0], "window": window, **{n: v[0] for n, v in zip(names, values, strict=True)}}


if __name__ == "__main__":
    main()
