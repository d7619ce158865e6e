"""Frames to instances with Keras."""

import keras
import numpy as np

from pumpseg.inference.letterbox import letterbox
from pumpseg.instances import Instances
from pumpseg_train.evaluation.metrics import Predict
from pumpseg_train.model.detect import Detector
from pumpseg_train.model.network import MaskRCNN

# JAX without it compiles each operation alone. On CPUs, XLA is several times slower than TensorFlow's own graph.
JIT = keras.backend.backend() == "jax"


def predictor(model: MaskRCNN) -> Predict:
    """Frame -> instances with Keras, letterboxed as the runtime does."""
    detector = Detector(model)
    detector.compile(jit_compile=JIT)
    profile = model.profile

    def predict(frame: np.ndarray) -> Instances:
        image, place = letterbox(frame, profile.input_size, profile.fill, swap_red_blue=True, rule=profile.letterbox)
        found = detector.predict_on_batch(image[None])
        valid = found["valid"][0]
        return Instances.in_frame(
            place.to_frame(found["boxes"][0][valid]),
            found["scores"][0][valid],
            found["class_ids"][0][valid].astype(np.int64),
            found["masks"][0][valid],
            frame.shape[:2],
            model.classes,
            profile.compat.mask_border,
        )

    return predict
