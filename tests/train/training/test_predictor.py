"""Keras' detections in the pixels of the frame."""

import numpy as np

from pumpseg_train.dataset.annotations import read_dataset
from pumpseg_train.dataset.photo_file import read_frame
from pumpseg_train.training.predictor import predictor


def test_predictor_gives_instances_in_frame_pixels(tiny_model, fruit):
    frame = read_frame(read_dataset(fruit, "val").photos[0].path)
    found = predictor(tiny_model)(frame)
    assert len(found) > 0
    assert found.frame_size == (120, 160)
    assert found.class_names == ("apple", "pumpkin")
    assert found.class_ids.dtype == np.int64
    assert found.boxes[:, 2].max() > 96, "not those of the 96 pixel input"
    assert (found.scores >= tiny_model.profile.score_threshold).all()
    assert found.masks.shape == (len(found), 120, 160)
