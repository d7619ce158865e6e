"""One training step and one detection on every Keras backend, each in a process of its own."""

import importlib.util
import os
import subprocess
import sys

import pytest

STEP = """
import dataclasses, sys
import keras, numpy as np
from pumpseg_train.model.detect import Detector
from pumpseg_train.model.losses import Trainer
from pumpseg_train.model.network import build_mask_rcnn
from pumpseg_train.model.profile import EDGE

assert keras.backend.backend() == sys.argv[1]
keras.utils.set_random_seed(0)
profile = dataclasses.replace(EDGE, input_size=(64, 64), candidates=100, proposals=20, max_detections=10)
model = build_mask_rcnn(profile, ("pumpkin",))
trainer = Trainer(model)
jit = sys.argv[1] == "jax"  # without it JAX compiles every operation alone, which takes far longer
trainer.compile(keras.optimizers.SGD(1e-3), jit_compile=jit)
image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.uint8)
batch = {
    "image": image,
    "boxes": np.array([[[10, 10, 40, 44], [0] * 4]], np.float32),
    "class_ids": np.array([[1, 0]], np.int32),
    "mini_masks": np.full((1, 2, 56, 56), 255, np.uint8),
}
kernels = [part.trainable_variables[-2] for part in (model.trunk, model.box_head, model.mask_head)]
before = [keras.ops.convert_to_numpy(kernel).copy() for kernel in kernels]
losses = trainer.train_on_batch(batch, return_dict=True)
assert all(np.isfinite(float(value)) for value in losses.values()), losses
assert set(losses) == {"loss", "rpn_class", "rpn_box", "class", "box", "mask"}
for kernel, old in zip(kernels, before):
    new = keras.ops.convert_to_numpy(kernel)
    assert np.isfinite(new).all() and not np.array_equal(new, old), kernel.path

detector = Detector(model)
detector.compile(jit_compile=jit)
found = {name: keras.ops.convert_to_numpy(value) for name, value in detector.predict_on_batch(image).items()}
shapes = {name: value.shape for name, value in found.items()}
wanted = {"boxes": (1, 10, 4), "scores": (1, 10), "class_ids": (1, 10), "masks": (1, 10, 28, 28), "valid": (1, 10)}
assert shapes == wanted, shapes
assert found["valid"].any() and np.isfinite(found["boxes"]).all()
assert 0 <= found["masks"].min() <= found["masks"].max() <= 1
assert (np.diff(found["scores"][0][found["valid"][0]]) <= 0).all()
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_backend_trains_and_detects(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    done = subprocess.run(
        [sys.executable, "-c", STEP, backend],
        env={**os.environ, "KERAS_BACKEND": backend, "XLA_FLAGS": "--xla_backend_optimization_level=0"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
